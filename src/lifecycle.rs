//! When a child starts, waits and gives up: pure, drawn.
