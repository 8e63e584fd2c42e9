//! Lines as bytes: out of the framer, and maimed.

use super::pieces::WORDS;
use super::script::Step;
use crate::mcp::line::{Framer, Line};
use crate::mcp::scan::Head;

/// What a stretched line grows by, bytes: more than any message may have here.
const STRETCH: usize = 5000;

/// A line as the framer gives it.
pub(super) enum Framed {
    Whole(Vec<u8>),
    TooLong(Head),
}

/// The lines that end with `bytes`.
pub(super) fn framed(framer: &mut Framer, bytes: &[u8]) -> Vec<Framed> {
    let mut lines = Vec::new();
    framer.feed(bytes, |line| {
        lines.push(match line {
            Line::Whole(line) => Framed::Whole(line.to_vec()),
            Line::TooLong(head) => Framed::TooLong(head),
        });
    });
    lines
}

impl Framed {
    /// What is there of it.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Whole(line) => line,
            Self::TooLong(_) => b"(a line that is too long)",
        }
    }

    pub(super) fn line(&self) -> Line<'_> {
        match self {
            Self::Whole(line) => Line::Whole(line),
            Self::TooLong(head) => Line::TooLong(head.clone()),
        }
    }
}

/// Cuts a piece out of a line and puts one in, doubles a piece, stretches it, or puts a word in.
pub(super) fn maim(line: &mut Vec<u8>, step: &Step<'_>) {
    let at = usize::from(step.a) * line.len() / 256;
    let amount = usize::from(step.b & 0x3f);
    match step.b >> 6 {
        0 => {
            let end = (at + amount).min(line.len());
            line.splice(at..end, step.bytes.iter().copied());
        }
        1 => {
            let piece = line[at..(at + amount).min(line.len())].to_vec();
            line.splice(at..at, piece);
        }
        2 => {
            let piece = if step.bytes.is_empty() { b"x".as_slice() } else { step.bytes };
            let longer: Vec<u8> = piece.iter().copied().cycle().take(STRETCH).collect();
            line.splice(at..at, longer);
        }
        _ => {
            line.splice(at..at, WORDS[amount % WORDS.len()].bytes());
        }
    }
}
