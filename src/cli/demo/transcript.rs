//! What the demo says, as it happens: acts, and steps that held or did not.

use std::io::{self, Write};

use super::super::print::{Paint, cut, text};

/// The longest detail of a step, characters.
const DETAIL: usize = 300;

/// The transcript.
pub(super) struct Transcript<W> {
    out: W,
    paint: Paint,
    steps: u32,
}

/// A step did not hold; it is in the transcript already.
#[derive(Debug, thiserror::Error)]
#[error("a step of the demo did not hold")]
pub(super) struct Broken;

impl<W: Write> Transcript<W> {
    pub(super) fn new(out: W, paint: Paint) -> Self {
        Self { out, paint, steps: 0 }
    }

    /// Plain text of our own.
    pub(super) fn say(&mut self, words: &str) -> io::Result<()> {
        writeln!(self.out, "{words}")?;
        self.out.flush()
    }

    /// A new act.
    pub(super) fn act(&mut self, title: &str) -> io::Result<()> {
        let title = self.paint.strong(title);
        self.say(&format!("\n{title}"))
    }

    /// A step: what it claims, and what came of it. One that did not hold ends the demo.
    pub(super) fn step<T>(
        &mut self,
        claim: &str,
        outcome: anyhow::Result<(T, String)>,
    ) -> anyhow::Result<T> {
        self.steps += 1;
        match outcome {
            Ok((value, detail)) => {
                self.say(&format!("  {}  {claim}", self.paint.good("ok")))?;
                if !detail.is_empty() {
                    self.say(&format!("      {}", cut(&detail, DETAIL)))?;
                }
                Ok(value)
            }
            Err(error) => {
                self.say(&format!("  {}  {claim}", self.paint.alarm("FAILED")))?;
                self.say(&format!("      {}", text(&format!("{error:#}"))))?;
                Err(Broken.into())
            }
        }
    }

    /// How many steps there were.
    pub(super) fn steps(&self) -> u32 {
        self.steps
    }

    /// The colours of this transcript.
    pub(super) fn paint(&self) -> Paint {
        self.paint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_does_not_hold_is_shown_and_ends_the_story() {
        let mut out = Vec::new();
        let mut transcript = Transcript::new(&mut out, Paint::plain());
        let held = transcript.step("one holds", Ok((7, "seen \x1b[2J".to_owned())));
        assert_eq!(held.expect("held"), 7);
        let broken = transcript.step::<()>("one does not", Err(anyhow::anyhow!("it broke")));
        assert!(broken.expect_err("broken").is::<Broken>());
        assert_eq!(transcript.steps(), 2);
        let shown = String::from_utf8(out).expect("UTF-8");
        assert!(shown.contains("  ok  one holds\n      seen \\u{1b}[2J\n"), "{shown}");
        assert!(shown.contains("  FAILED  one does not\n      it broke\n"), "{shown}");
    }
}
