//! Decisions, pure: who is admitted. Decides and never acts.
