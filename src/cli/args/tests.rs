//! That the table of commands parses what it says, and nothing else.

use clap::CommandFactory as _;

use super::*;

#[test]
fn the_table_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn a_duration_is_a_number_and_a_unit() {
    assert_eq!(duration("15m"), Ok(Duration::from_secs(900)));
    assert_eq!(limit("unlimited"), Ok(Limit::Unlimited));
    for bad in ["", "15", "m", "0s", "1.5h", "-1s", "400d", "99999999999999999999s", "1y"] {
        assert!(duration(bad).is_err(), "{bad:?} was accepted");
    }
}

#[test]
fn one_supervisor_is_chosen_not_two() {
    assert!(Cli::try_parse_from(["tenantd", "status", "--user", "--system"]).is_err());
    assert!(Cli::try_parse_from(["tenantd", "connect", "acme/git", "--strict"]).is_ok());
    assert!(Cli::try_parse_from(["tenantd", "connect", "../acme"]).is_err());
}

#[test]
fn either_a_tenant_or_the_supervisor_is_restarted() {
    for good in [["restart", "acme/git"], ["restart", "--supervisor"]] {
        assert!(Cli::try_parse_from(["tenantd"].into_iter().chain(good)).is_ok(), "{good:?}");
    }
    assert!(Cli::try_parse_from(["tenantd", "restart"]).is_err());
    assert!(Cli::try_parse_from(["tenantd", "restart", "acme", "--supervisor"]).is_err());
}
