//! What a tenant can make its egress hold: bounded, and nobody else's.

use serde_json::json;

use crate::support::Home;
use crate::world::{World, logged, python, tool};

#[test]
fn a_flood_of_connections_is_bounded_and_no_other_tenant_notices() {
    let Some(world) = World::make() else { return };
    let server = world.shouts("127.0.0.1:5432");
    let home = Home::new();
    for id in ["flood", "calm"] {
        home.tenant(id, &python(r#"["db.acme.lan:5432"]"#));
    }
    let supervisor = world.start(&home);
    let (mut flood, mut calm) = (supervisor.connect("flood"), supervisor.connect("calm"));
    flood.initialize(json!({}));
    calm.initialize(json!({}));
    let to = json!({"host": "db.acme.lan", "port": 5432, "count": 300});
    let held = tool(&mut flood, "hold", to.clone());
    assert_eq!(held["alive"], 256, "{held}");
    let denied = logged(&home, "flood", &[" denied ", "256 connections open"], 44);
    assert_eq!(denied.len(), 44);
    let heard =
        tool(&mut calm, "dial", json!({"host": "db.acme.lan", "port": 5432, "text": "calm"}));
    assert_eq!(heard["heard"], "CALM", "{heard}");
    // What is given back can be had again.
    tool(&mut flood, "drop", json!({}));
    logged(&home, "flood", &[" allowed ", "sent=1 received=1 "], 256);
    let heard =
        tool(&mut flood, "dial", json!({"host": "db.acme.lan", "port": 5432, "text": "again"}));
    assert_eq!(heard["heard"], "AGAIN", "{heard}");
    assert!(server.taken() < 300, "{}", server.taken());
    flood.close();
    calm.close();
    supervisor.stop();
}
