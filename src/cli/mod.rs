//! The street: the commands that people and clients type.
