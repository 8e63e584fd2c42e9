//! An input read as a play: a head that sets the scene, then steps. Every input is a script, and a small
//! change of one is a small change of the play: a step has a fixed length, but for what it quotes.

/// Bytes that set the scene.
pub(super) const HEAD: usize = 4;
/// Bytes of a step, before what it quotes.
const STEP: usize = 6;

/// What a step is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// A client asks, as clients do.
    Ask,
    /// A client notifies, as clients do.
    Notify,
    /// A client answers what a server asked.
    Reply,
    /// A client gives a request up.
    Cancel,
    /// A server answers a request.
    Answer,
    /// A server notifies.
    Tell,
    /// A server asks.
    Demand,
    /// The hostile side says something well-formed with a piece cut out, put in, doubled or stretched.
    Maim,
    /// The hostile side says any bytes.
    Babble,
    /// The next step is made many times in one breath.
    Flood,
    /// A child that was asked for starts, or cannot.
    Start,
    /// A child dies.
    Die,
    /// Time passes.
    Pass,
    /// A session is opened.
    Open,
    /// A session ends, one way or the other, or an end stops or begins to read.
    Leave,
    /// The supervisor acts: a restart, a changed plan, its own absence, a drain.
    Govern,
}

impl Deed {
    /// Whether it is something that a client or a server says.
    pub(super) fn is_talk(self) -> bool {
        !matches!(
            self,
            Self::Flood
                | Self::Start
                | Self::Die
                | Self::Pass
                | Self::Open
                | Self::Leave
                | Self::Govern
        )
    }
}

const DEEDS: [Deed; 16] = [
    Deed::Ask,
    Deed::Notify,
    Deed::Reply,
    Deed::Cancel,
    Deed::Answer,
    Deed::Tell,
    Deed::Demand,
    Deed::Maim,
    Deed::Babble,
    Deed::Flood,
    Deed::Start,
    Deed::Die,
    Deed::Pass,
    Deed::Open,
    Deed::Leave,
    Deed::Govern,
];

/// One step. What its numbers mean is for its deed to say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step<'a> {
    pub(super) deed: Deed,
    pub(super) who: usize,
    pub(super) what: usize,
    pub(super) a: u8,
    pub(super) b: u8,
    /// What it quotes: of [`Deed::Maim`] and [`Deed::Babble`] alone.
    pub(super) bytes: &'a [u8],
    /// It is [`Deed::Maim`], and `deed` what is maimed.
    pub(super) maimed: bool,
}

/// The steps of an input.
#[derive(Debug)]
pub(super) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// Takes the head off.
    pub(super) fn read(input: &'a [u8]) -> ([u8; HEAD], Self) {
        let mut head = [0; HEAD];
        let there = input.len().min(HEAD);
        head[..there].copy_from_slice(&input[..there]);
        (head, Self(&input[there..]))
    }
}

impl<'a> Iterator for Script<'a> {
    type Item = Step<'a>;

    fn next(&mut self) -> Option<Step<'a>> {
        let ([deed, who, what, a, b, length], rest) = self.0.split_first_chunk::<STEP>()?;
        let deed = DEEDS[usize::from(*deed) % DEEDS.len()];
        let quotes = matches!(deed, Deed::Maim | Deed::Babble);
        let length = if quotes { usize::from(*length).min(rest.len()) } else { 0 };
        let (bytes, rest) = rest.split_at(length);
        self.0 = rest;
        let (who, what) = (usize::from(*who), usize::from(*what));
        Some(Step { deed, who, what, a: *a, b: *b, bytes, maimed: false })
    }
}
