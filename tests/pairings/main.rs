//! Every client on every server, through tenantd: real clients and real servers of both eras of MCP.
//!
//! | file | holds |
//! |---|---|
//! | `table.rs` | which clients, servers and capabilities, and what a cell leaves out and why |
//! | `servers.rs`, `proof.rs` | how a server is started, and values that it alone could have given |
//! | `clients.rs`, `rmcp_client.rs` | how a client does the steps of a plan |
//! | `cell.rs` | one cell: through tenantd, and directly where both speak one era, byte for byte |

#![allow(missing_docs, reason = "a test binary has no API")]

#[path = "../support/mod.rs"]
mod support;

mod cell;
mod clients;
mod proof;
mod rmcp_client;
mod servers;
mod table;

/// One test for each server, for this client.
macro_rules! row {
    ($name:ident, $client:ident) => {
        mod $name {
            use crate::cell::show;
            use crate::table::{Client, Server};

            #[test]
            fn works_on_server_everything() {
                show(Client::$client, Server::Everything);
            }

            #[test]
            fn works_on_server_filesystem() {
                show(Client::$client, Server::Filesystem);
            }

            #[test]
            fn works_on_server_memory() {
                show(Client::$client, Server::Memory);
            }

            #[test]
            fn works_on_server_git() {
                show(Client::$client, Server::Git);
            }

            #[test]
            fn works_on_server_time() {
                show(Client::$client, Server::Time);
            }

            #[test]
            fn works_on_a_typescript_server_without_a_handshake() {
                show(Client::$client, Server::Typescript);
            }

            #[test]
            fn works_on_the_built_in_documents() {
                show(Client::$client, Server::Documents);
            }
        }
    };
}

row!(python_auto, PythonAuto);
row!(python_legacy, PythonLegacy);
row!(python_modern, PythonModern);
row!(typescript_auto, TypescriptAuto);
row!(typescript_legacy, TypescriptLegacy);
row!(typescript_modern, TypescriptModern);
row!(inspector_legacy, InspectorLegacy);
row!(inspector_modern, InspectorModern);
row!(rmcp_initialize, RmcpInitialize);
row!(rmcp_discover, RmcpDiscover);
row!(rmcp_auto, RmcpAuto);
