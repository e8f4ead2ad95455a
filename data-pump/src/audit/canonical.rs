//! One text for a JSON value, whoever wrote it down: what is hashed for a fact.
//!
//! PostgreSQL's `jsonb` keeps values and forgets spelling: it orders an object's fields by length, puts
//! blanks after commas, and chooses its own escapes. So a fact is hashed in a form that can be had from
//! the grid's own value as from what the database gives back: fields in the order of their names'
//! characters, no blanks, the shortest escapes, whole numbers as they are. It is what Python writes with
//! `json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)`.
//!
//! It deliberately does not bring fractions and exponents to one form: facts have none.

use std::borrow::Cow;

/// Deeper values are refused; facts are a handful of levels deep.
const DEPTH_MAX: usize = 64;

/// The canonical form of a JSON text; `None` if it is no JSON, names a field twice, or is nested more
/// than 64 levels deep.
#[must_use]
pub fn canonical_json(json: &str) -> Option<String> {
    let mut scanner = Scanner {
        text: json,
        next: 0,
    };
    let mut out = String::with_capacity(json.len());
    scanner.value(&mut out, 0)?;
    scanner.skip_blanks();
    (scanner.next == json.len()).then_some(out)
}

struct Scanner<'a> {
    text: &'a str,
    next: usize,
}

/// A field as it lies in the output: its name, and from where to where.
struct Field<'a> {
    name: Cow<'a, str>,
    start: usize,
    end: usize,
}

impl<'a> Scanner<'a> {
    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.next += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.next).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        self.skip_blanks();
        (self.peek()? == byte).then(|| self.next += 1)
    }

    fn value(&mut self, out: &mut String, depth: usize) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.skip_blanks();
        match self.peek()? {
            b'{' => self.object(out, depth),
            b'[' => self.array(out, depth),
            b'"' => self.string(out).map(drop),
            b't' => self.word("true", out),
            b'f' => self.word("false", out),
            b'n' => self.word("null", out),
            _ => self.number(out),
        }
    }

    fn word(&mut self, word: &str, out: &mut String) -> Option<()> {
        self.text[self.next..].starts_with(word).then(|| {
            self.next += word.len();
            out.push_str(word);
        })
    }

    fn number(&mut self, out: &mut String) -> Option<()> {
        let start = self.next;
        while matches!(
            self.peek(),
            Some(b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
        ) {
            self.next += 1;
        }
        let text = &self.text[start..self.next];
        let digits = text.strip_prefix('-').unwrap_or(text);
        digits
            .starts_with(|first: char| first.is_ascii_digit())
            .then(|| out.push_str(text))
    }

    /// Copies a string in its shortest form, and returns what it says.
    fn string(&mut self, out: &mut String) -> Option<Cow<'a, str>> {
        let start = self.next;
        let mut has_escapes = false;
        loop {
            self.next += 1;
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    has_escapes = true;
                    self.next += 1;
                }
                0..0x20 => return None,
                _ => {}
            }
        }
        self.next += 1;
        let quoted = self.text.get(start..self.next)?;
        if !has_escapes {
            out.push_str(quoted);
            return Some(Cow::Borrowed(&quoted[1..quoted.len() - 1]));
        }
        let said: String = serde_json::from_str(quoted).ok()?;
        out.push_str(&serde_json::to_string(&said).ok()?);
        Some(Cow::Owned(said))
    }

    fn array(&mut self, out: &mut String, depth: usize) -> Option<()> {
        self.take(b'[')?;
        out.push('[');
        self.skip_blanks();
        if self.peek()? != b']' {
            loop {
                self.value(out, depth + 1)?;
                self.skip_blanks();
                if self.peek()? != b',' {
                    break;
                }
                self.next += 1;
                out.push(',');
            }
        }
        self.take(b']')?;
        out.push(']');
        Some(())
    }

    fn object(&mut self, out: &mut String, depth: usize) -> Option<()> {
        self.take(b'{')?;
        out.push('{');
        let first = out.len();
        let mut fields: Vec<Field<'a>> = Vec::new();
        self.skip_blanks();
        if self.peek()? != b'}' {
            loop {
                self.skip_blanks();
                let start = out.len();
                if self.peek()? != b'"' {
                    return None;
                }
                let name = self.string(out)?;
                self.take(b':')?;
                out.push(':');
                self.value(out, depth + 1)?;
                let end = out.len();
                fields.push(Field { name, start, end });
                self.skip_blanks();
                if self.peek()? != b',' {
                    break;
                }
                self.next += 1;
                out.push(',');
            }
        }
        self.take(b'}')?;
        if !fields.is_sorted_by(|one, other| one.name < other.name) {
            fields.sort_by(|one, other| one.name.cmp(&other.name));
            if fields.windows(2).any(|pair| pair[0].name == pair[1].name) {
                return None;
            }
            let unsorted = out.split_off(first);
            for (place, field) in fields.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                out.push_str(&unsorted[field.start - first..field.end - first]);
            }
        }
        out.push('}');
        Some(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn fields_are_in_order_and_blanks_are_gone() {
        let spelled =
            " { \"b\" : [ 1 , -2, {\"z\":null,\"aa\":true} ] , \"a\":\"x\\u00e9\\/\\n\" } ";
        assert_eq!(
            canonical_json(spelled).as_deref(),
            Some("{\"a\":\"xé/\\n\",\"b\":[1,-2,{\"aa\":true,\"z\":null}]}")
        );
        assert_eq!(canonical_json("{}").as_deref(), Some("{}"));
        assert_eq!(canonical_json("[]").as_deref(), Some("[]"));
    }

    #[test]
    fn what_is_no_json_has_no_form() {
        for wrong in [
            "",
            "{",
            "{]",
            "[1,]",
            "{\"a\":1,\"a\":2}",
            "{\"a\" 1}",
            "tru",
            "\"a",
            "\"\u{1}\"",
            "1 2",
            "-",
            "{1:2}",
            "\"\\\"",
        ] {
            assert_eq!(canonical_json(wrong), None, "{wrong}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(canonical_json(&deep), None);
    }

    pub(crate) fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            "[^\u{0}]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[^\u{0}]{0,8}", inner, 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn however_it_is_spelled_it_is_one_text(value in any_json()) {
            let plain = canonical_json(&value.to_string());
            let pretty = canonical_json(&serde_json::to_string_pretty(&value).expect("JSON"));
            prop_assert_eq!(&plain, &pretty);
            let read: Value = serde_json::from_str(&plain.clone().expect("JSON")).expect("JSON");
            prop_assert_eq!(read, value);
            prop_assert_eq!(canonical_json(plain.as_deref().expect("JSON")), plain.clone());
        }
    }
}
