//! The sandbox: the plan for a server, and the stage that applies it.
