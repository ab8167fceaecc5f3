//! [`Bytes`]: an input as a row of choices.

use serde_json::{Value as Json, json};

/// The first byte of an input that is a row of choices; any other begins a text.
pub(crate) const CHOICES: u8 = 0xFF;

/// Texts that values, names and patterns are made of.
pub(crate) const TEXTS: &[&str] = &[
    "",
    " ",
    "a",
    "B",
    "ß",
    "Zürich",
    "2026-02-28",
    "2026-02-30",
    "9999-12-31",
    "2026-01-31T12:00:00Z",
    "2026-01-31T23:59:60.000000Z",
    "12.50",
    "-0",
    "1e400",
    "79228162514264337593543950335",
    "00000000-0000-0000-0000-000000000000",
    "ada@acme.example",
    "https://acme.example/?q=1",
    "+41 44 668 18 00",
    "\u{0}\u{7f}",
    "e\u{301}\u{200d}",
    "(a+)+$",
    "[a-z]{2,4}\\d",
    "(?=x)",
    "\\p{L}{1000}{1000}",
];

/// Reads choices from bytes; at their end every choice is the first.
pub(crate) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// The choices of an input, if it is a row of them.
    pub(crate) fn of(input: &'a [u8]) -> Option<Self> {
        match input.split_first() {
            Some((&CHOICES, rest)) => Some(Self(rest)),
            _ => None,
        }
    }

    pub(crate) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    /// One of so many.
    pub(crate) fn one_of(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count.max(1)
    }

    pub(crate) fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.one_of(all.len())]
    }

    pub(crate) fn yes(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    pub(crate) fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.yes().then(|| make(self))
    }

    /// A whole number, often at an end of a range.
    pub(crate) fn number(&mut self) -> i64 {
        let ends = [
            0,
            1,
            -1,
            255,
            1_000,
            i64::from(i32::MAX),
            i64::from(i32::MIN),
            i64::MAX,
            i64::MIN,
        ];
        match self.yes() {
            true => self.pick(&ends),
            false => i64::from(self.byte()) - 128,
        }
    }

    /// A text: one that is known, or bytes as they are.
    pub(crate) fn text(&mut self) -> String {
        if self.yes() {
            return self.pick(TEXTS).to_owned();
        }
        let length = self.one_of(12);
        let (own, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        String::from_utf8_lossy(own).into_owned()
    }

    /// Any JSON, nested a little.
    pub(crate) fn json(&mut self, depth: usize) -> Json {
        let kinds = if depth == 0 { 6 } else { 8 };
        match self.one_of(kinds) {
            0 => Json::Null,
            1 => json!(self.yes()),
            2 => json!(self.number()),
            3 => json!(f64::from(self.byte()) / 7.0 * 10_f64.powi(self.one_of(40) as i32 - 20)),
            4 => json!(self.number().to_string()),
            5 => json!(self.text()),
            6 => {
                let count = self.one_of(5);
                (0..count).map(|_| self.json(depth - 1)).collect()
            }
            _ => {
                let count = self.one_of(4);
                let members = (0..count).map(|_| (self.text(), self.json(depth - 1)));
                Json::Object(members.collect())
            }
        }
    }
}
