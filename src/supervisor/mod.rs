//! The house: listens, admits, starts, watches, answers.
