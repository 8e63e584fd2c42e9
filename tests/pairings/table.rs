//! The table: which client, which server, what there is to show, and what a cell leaves out and why.

use crate::support::Era;

/// A real client in one of its modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    PythonAuto,
    PythonLegacy,
    PythonModern,
    TypescriptAuto,
    TypescriptLegacy,
    TypescriptModern,
    InspectorLegacy,
    InspectorModern,
    RmcpInitialize,
    RmcpDiscover,
    RmcpAuto,
}

/// A real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Everything,
    Filesystem,
    Memory,
    Git,
    Time,
    Typescript,
    Documents,
}

/// What a cell shows to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Capability {
    Tools,
    Resources,
    Prompts,
    Progress,
    Cancellation,
    Subscriptions,
    Elicitation,
    Sampling,
}

/// Why a cell does not show it. The cell confirms it where that can be seen (`check_left_out`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skip {
    /// The server has none, or never does it.
    NotOffered,
    /// Every call is answered at once: nothing can be cancelled.
    AnswersAtOnce,
    /// The client asks one thing and ends: it cannot change its mind, waits for nothing else, and lets
    /// no server tell of progress or ask.
    AsksOnce,
}

use Capability::{
    Cancellation, Elicitation, Progress, Prompts, Resources, Sampling, Subscriptions, Tools,
};

impl Client {
    pub(crate) const ALL: [Self; 11] = [
        Self::PythonAuto,
        Self::PythonLegacy,
        Self::PythonModern,
        Self::TypescriptAuto,
        Self::TypescriptLegacy,
        Self::TypescriptModern,
        Self::InspectorLegacy,
        Self::InspectorModern,
        Self::RmcpInitialize,
        Self::RmcpDiscover,
        Self::RmcpAuto,
    ];

    /// The era that it speaks through tenantd, which answers discovery for every server: one that
    /// probes is modern.
    pub(crate) fn era(self) -> Era {
        match self {
            Self::PythonLegacy
            | Self::TypescriptLegacy
            | Self::InspectorLegacy
            | Self::RmcpInitialize => Era::Legacy,
            _ => Era::Modern,
        }
    }

    /// Whether the two find a common era without tenantd. A legacy client meets a server of both eras in
    /// its own; one that probes speaks the server's.
    pub(crate) fn works_directly_on(self, server: Server) -> bool {
        match (self.era(), server.era()) {
            (Era::Legacy, Era::Modern) => server != Server::Typescript,
            (Era::Modern, Era::Legacy) => self.mode() == "auto",
            _ => true,
        }
    }

    fn cannot(self, capability: Capability) -> Option<Skip> {
        let one_thing = matches!(self, Self::InspectorLegacy | Self::InspectorModern);
        let more =
            matches!(capability, Progress | Cancellation | Subscriptions | Elicitation | Sampling);
        (one_thing && more).then_some(Skip::AsksOnce)
    }
}

impl Server {
    pub(crate) const ALL: [Self; 7] = [
        Self::Everything,
        Self::Filesystem,
        Self::Memory,
        Self::Git,
        Self::Time,
        Self::Typescript,
        Self::Documents,
    ];

    /// The era that tenantd speaks with it.
    pub(crate) fn era(self) -> Era {
        match self {
            Self::Everything | Self::Filesystem | Self::Memory => Era::Legacy,
            Self::Git | Self::Time | Self::Typescript | Self::Documents => Era::Modern,
        }
    }

    fn cannot(self, capability: Capability) -> Option<Skip> {
        match (self, capability) {
            (Self::Everything | Self::Typescript, _) | (_, Tools) => None,
            (Self::Filesystem | Self::Memory | Self::Git, Cancellation) => None,
            (Self::Memory, Resources | Subscriptions) => None,
            (Self::Time | Self::Documents, Cancellation) => Some(Skip::AnswersAtOnce),
            _ => Some(Skip::NotOffered),
        }
    }
}

impl Capability {
    pub(crate) const ALL: [Self; 8] =
        [Tools, Resources, Prompts, Progress, Cancellation, Subscriptions, Elicitation, Sampling];
}

/// Why the cell leaves this out; `None` if it shows it.
pub(crate) fn skip(client: Client, server: Server, capability: Capability) -> Option<Skip> {
    server.cannot(capability).or_else(|| client.cannot(capability))
}

/// Prints the table (`--no-capture` shows it) and counts what it leaves out, so that nobody can add to
/// that without saying so here.
#[test]
fn the_table_leaves_out_what_it_says_and_no_more() {
    let (mut shown, mut not_offered, mut at_once, mut asks_once) = (0, 0, 0, 0);
    for client in Client::ALL {
        for server in Server::ALL {
            for capability in Capability::ALL {
                let count = match skip(client, server, capability) {
                    None => &mut shown,
                    Some(Skip::NotOffered) => &mut not_offered,
                    Some(Skip::AnswersAtOnce) => &mut at_once,
                    Some(Skip::AsksOnce) => &mut asks_once,
                };
                *count += 1;
            }
            let left = Capability::ALL.map(|capability| skip(client, server, capability));
            eprintln!("{client:?} x {server:?}: {}", row(&left));
        }
    }
    assert_eq!(shown, 258, "capabilities shown in {} cells", 11 * 7);
    assert_eq!((not_offered, at_once, asks_once), (308, 22, 28), "capabilities left out");
}

fn row(left: &[Option<Skip>; 8]) -> String {
    let pairs = Capability::ALL.iter().zip(left);
    let cells = pairs.map(|(capability, skip)| match skip {
        None => format!("{capability:?}"),
        Some(reason) => format!("({capability:?}: {reason:?})"),
    });
    cells.collect::<Vec<_>>().join(", ")
}
