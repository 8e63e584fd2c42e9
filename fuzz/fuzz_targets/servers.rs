//! Hostile servers and honest clients around one exchange.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tenantd::mux::fuzzing::servers(input));
