//! JSON values that know where they stand in their file, so that every mistake can be named with line,
//! column and path.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Mistake;

/// A value of a JSON text.
#[derive(Clone, Debug)]
pub(super) struct Located<'a> {
    raw: &'a RawValue,
    /// Such as `sections[2].price`.
    path: String,
}

/// The fields of an object.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    owner: Located<'a>,
    fields: BTreeMap<String, &'a RawValue>,
}

/// A text with the mistakes found in it so far.
#[derive(Debug)]
pub(super) struct Document<'a> {
    text: &'a str,
    mistakes: Vec<Mistake>,
}

/// A string, borrowed where nothing in it is escaped.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Document<'a> {
    /// Reads the outermost value. A text that is no JSON has one mistake.
    pub(super) fn parse(text: &'a str) -> Result<(Self, Located<'a>), Vec<Mistake>> {
        match serde_json::from_str::<&RawValue>(text) {
            Ok(raw) => {
                let document = Self {
                    text,
                    mistakes: Vec::new(),
                };
                Ok((
                    document,
                    Located {
                        raw,
                        path: String::new(),
                    },
                ))
            }
            Err(error) => Err(vec![Mistake {
                line: error.line() as u64,
                column: Some(error.column() as u64),
                place: String::new(),
                reason: format!("no JSON: {}", without_place(&error.to_string())),
            }]),
        }
    }

    /// Notes a mistake.
    pub(super) fn wrong(&mut self, value: &Located<'a>, reason: impl Into<String>) {
        // A raw value is a slice of the text.
        let offset =
            (value.raw.get().as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let before = self.text.get(..offset).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        self.mistakes.push(Mistake {
            line: before.matches('\n').count() as u64 + 1,
            column: Some(before[line_start..].chars().count() as u64 + 1),
            place: value.path.clone(),
            reason: reason.into(),
        });
    }

    /// The value, or every mistake in the text's order.
    pub(super) fn finish<T>(mut self, value: Option<T>) -> Result<T, Vec<Mistake>> {
        self.mistakes
            .sort_by_key(|mistake| (mistake.line, mistake.column));
        match value {
            Some(value) if self.mistakes.is_empty() => Ok(value),
            _ => Err(self.mistakes),
        }
    }

    /// The fields of an object.
    pub(super) fn object(&mut self, value: &Located<'a>) -> Option<Fields<'a>> {
        match serde_json::from_str(value.raw.get()) {
            Ok(fields) => Some(Fields {
                owner: value.clone(),
                fields,
            }),
            Err(_) => {
                self.wrong(value, "must be an object {…}");
                None
            }
        }
    }

    /// The elements of an array.
    pub(super) fn array(&mut self, value: &Located<'a>) -> Option<Vec<Located<'a>>> {
        match serde_json::from_str::<Vec<&RawValue>>(value.raw.get()) {
            Ok(elements) => Some(
                elements
                    .into_iter()
                    .enumerate()
                    .map(|(place, raw)| Located {
                        raw,
                        path: format!("{}[{place}]", value.path),
                    })
                    .collect(),
            ),
            Err(_) => {
                self.wrong(value, "must be an array […]");
                None
            }
        }
    }

    /// A string.
    pub(super) fn string(&mut self, value: &Located<'a>) -> Option<String> {
        match serde_json::from_str::<Text<'_>>(value.raw.get()) {
            Ok(Text(text)) => Some(text.into_owned()),
            Err(_) => {
                self.wrong(value, "must be a string");
                None
            }
        }
    }

    /// A whole number from `least` on.
    pub(super) fn number(&mut self, value: &Located<'a>, least: u64) -> Option<u64> {
        match serde_json::from_str::<u64>(value.raw.get()) {
            Ok(number) if number >= least => Some(number),
            _ => {
                self.wrong(value, format!("must be a whole number, at least {least}"));
                None
            }
        }
    }

    /// A field that must be there.
    pub(super) fn required(&mut self, fields: &Fields<'a>, name: &str) -> Option<Located<'a>> {
        let found = fields.get(name);
        if found.is_none() {
            self.wrong(&fields.owner, format!("`{name}` is missing"));
        }
        found
    }
}

impl<'a> Fields<'a> {
    /// A field that may be there.
    pub(super) fn get(&self, name: &str) -> Option<Located<'a>> {
        let raw = self.fields.get(name)?;
        Some(self.locate(name, raw))
    }

    /// Fields by other names, as when one is misspelt.
    pub(super) fn others(&self, known: &[&str]) -> Vec<Located<'a>> {
        self.fields
            .iter()
            .filter(|(name, _)| !known.contains(&name.as_str()))
            .map(|(name, raw)| self.locate(name, raw))
            .collect()
    }

    fn locate(&self, name: &str, raw: &'a RawValue) -> Located<'a> {
        let path = &self.owner.path;
        let path = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        Located { raw, path }
    }
}

impl Located<'_> {
    /// The JSON itself.
    pub(super) fn json(&self) -> &str {
        self.raw.get()
    }
}

fn without_place(message: &str) -> &str {
    message
        .rsplit_once(" at line ")
        .map_or(message, |(reason, _)| reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_placed() {
        let text = "{\n  \"a\": [1,\n  \"é\", \"x\"]}";
        let (mut document, root) = Document::parse(text).expect("JSON");
        let fields = document.object(&root).expect("an object");
        let list = fields.get("a").expect("there");
        let elements = document.array(&list).expect("an array");
        assert_eq!(document.number(&elements[0], 1), Some(1));
        assert_eq!(document.number(&elements[2], 1), None);
        let mistakes = document.finish(Some(())).expect_err("one");
        assert_eq!(
            mistakes[0].to_string(),
            "line 3, column 8, a[2]: must be a whole number, at least 1"
        );
    }

    #[test]
    fn broken_json_is_placed() {
        let mistakes = Document::parse("{\n\"a\": }").expect_err("broken");
        assert_eq!(
            mistakes[0].to_string(),
            "line 2, column 6: no JSON: expected value"
        );
    }
}
