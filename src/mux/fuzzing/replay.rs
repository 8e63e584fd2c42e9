//! A bounded part of the fuzz targets for every run of the tests: the committed corpus, and inputs that are
//! made from it by lot, always the same.

use std::fs;

use super::paths::{Path, Paths};
use super::play::{Hostile, Play};

/// How many lines a play has at most here.
const LINES: usize = 150;
/// How many inputs are made for each target.
const MADE: usize = 1000;
/// How long an input becomes, bytes.
const LONGEST: usize = 1024;

/// Plays the corpus of a target and what is made of it; tells which ways the corpus alone went.
fn play(target: &str, hostile: Hostile) -> Paths {
    let mut paths = Paths::default();
    let (corpus, made) = inputs(target);
    for input in corpus {
        paths.add(&Play::new(&Shown(input).0, hostile, LINES).run());
    }
    for input in made {
        Play::new(&Shown(input).0, hostile, LINES).run();
    }
    paths
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let place = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&place).expect("a corpus");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(paths.len() >= 20, "{} holds {} inputs only", place.display(), paths.len());
    paths.iter().map(|path| fs::read(path).expect("an input")).collect()
}

/// Lots: always the same (splitmix64).
struct Lots(u64);

impl Lots {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let drawn = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (drawn >> 33) as usize % most.max(1)
    }

    /// An input that was not there: pieces of two, with bytes changed, put in and taken out.
    fn mix(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let (one, other) = (&corpus[self.below(corpus.len())], &corpus[self.below(corpus.len())]);
        let mut made = one[..self.below(one.len() + 1)].to_vec();
        made.extend_from_slice(&other[self.below(other.len() + 1)..]);
        for _ in 0..self.below(8) {
            let at = self.below(made.len() + 1);
            match self.below(3) {
                0 => made.insert(at, self.below(256) as u8),
                1 if at < made.len() => made[at] = self.below(256) as u8,
                _ if at < made.len() => drop(made.remove(at)),
                _ => {}
            }
        }
        made.truncate(LONGEST);
        made
    }
}

/// An input that is shown where it fails.
struct Shown(Vec<u8>);

impl Drop for Shown {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input: {}", self.0.escape_ascii());
        }
    }
}

/// The corpus of a target, and what is made of it.
fn inputs(target: &str) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let corpus = corpus(target);
    let mut lots = Lots(7);
    let made = (0..MADE).map(|_| lots.mix(&corpus)).collect();
    (corpus, made)
}

fn every_way_is_gone(paths: &Paths) {
    let missed = Path::ALL.into_iter().filter(|path| paths.count(*path) == 0);
    assert_eq!(missed.collect::<Vec<_>>(), [], "{paths:?}");
}

#[test]
fn whatever_bytes_come_as_lines_the_corpus_keeps_every_promise_of_the_envelope() {
    let (corpus, made) = inputs("envelope");
    for input in corpus.into_iter().chain(made) {
        crate::mcp::fuzzing::envelope(&Shown(input).0);
    }
}

#[test]
fn whatever_clients_say_the_corpus_keeps_every_promise_of_the_exchange() {
    every_way_is_gone(&play("clients", Hostile::Clients));
}

#[test]
fn whatever_servers_say_the_corpus_keeps_every_promise_of_the_exchange() {
    every_way_is_gone(&play("servers", Hostile::Servers));
}
