//! Changes to JSON texts: some keep them nearly well-formed, some do not.

/// What is put in or over: syntax, edges of numbers and of Unicode, and the protocol's own words.
const WORDS: [&[u8]; 48] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b":",
    b",",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\\udc00\\ud800",
    b"null",
    b"true",
    b"false",
    b"0",
    b"-1",
    b"-0",
    b"0.1",
    b"1e9",
    b"1e999",
    b"1E-999",
    b"00",
    b"255",
    b"4294967296",
    b"9223372036854775808",
    b"18446744073709551616",
    b"150.00",
    b".5",
    b"\xff",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    "\u{202e}".as_bytes(),
    "\u{1f600}".as_bytes(),
    b"\0",
    b"\"type\":",
    b"\"id\":",
    b"\"amount\":",
    b"\"currency\":\"EUR\"",
    b"\"seats\":[\"A-1-1\"]",
    b"\"quantity\":1",
    b"\"best_available\":true",
    b"\"key\":\"k\"",
    b"\"from\":\"3:1:0\"",
    b"{\"amount\":\"1\",\"currency\":\"JPY\"}",
    b"6f0e2d52-3a5c-4c8e-9b58-1f2d3c4b5a69",
    b"2030-01-01T00:00:00Z",
    b"-009999-01-01T00:00:00Z",
    b"{\"x\":",
];
/// No mutation makes an input longer than this, in bytes.
pub(super) const INPUT_BYTES_MAX: usize = 64 << 10;

/// SplitMix64: the same numbers for the same seed, everywhere.
#[derive(Debug)]
pub(super) struct Chance(pub(super) u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 where that is 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// A part of something so long: its start, and an end up to `longest` behind it.
    fn part(&mut self, length: usize, longest: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let end = (start + self.below(longest + 1)).min(length);
        start..end
    }
}

/// Changes an input in one to four places; `other` lends it a part.
pub(super) fn mutate(chance: &mut Chance, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=chance.below(4) {
        let place = chance.below(bytes.len() + 1);
        match chance.below(10) {
            0 => {
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 1 << chance.below(8);
                }
            }
            1 => {
                if let Some(byte) = bytes.get_mut(place) {
                    *byte = chance.below(256) as u8;
                }
            }
            2 => {
                let part = chance.part(bytes.len(), 16);
                bytes.drain(part);
            }
            3 => bytes.truncate(place),
            4 => {
                let part = chance.part(bytes.len(), 64);
                let copy = bytes[part].to_vec();
                bytes.splice(place..place, copy);
            }
            5 => {
                let part = chance.part(other.len(), 256);
                bytes.splice(place..place, other[part].iter().copied());
            }
            6 => {
                let part = chance.part(bytes.len(), 12);
                let word = WORDS[chance.below(WORDS.len())];
                bytes.splice(part, word.iter().copied());
            }
            7 => {
                let word = WORDS[chance.below(WORDS.len())];
                let times = 1 + chance.below(40);
                bytes.splice(place..place, word.repeat(times));
            }
            _ => {
                let word = WORDS[chance.below(WORDS.len())];
                bytes.splice(place..place, word.iter().copied());
            }
        }
    }
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}
