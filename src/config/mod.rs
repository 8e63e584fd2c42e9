//! Configuration: written, then meant.
//!
//! `tenantd.toml`, `templates.d/*.toml` and `tenants.d/*.toml` are read here and nowhere else. Each file
//! becomes a table whose values know where they were written; defaults, template and file are merged
//! key by key; what results is read into the types of `written`, and these are turned into what was
//! meant: [`tenant::Tenant`] and [`tenant::Settings`]. Nothing stops at the first mistake: every
//! [`Problem`] of every file is found in one pass, with its line, its column and its cure.
//!
//! ```text
//! source (bytes) -> layer (tables with places) -> merged -> written (typed) -> meant (checked) -> Tenant
//!                        \__ problems ______________\________ problems ______________/
//! ```
//!
//! This room reads files and looks whether commands exist. It starts nothing and writes nothing.

pub mod expand;
pub mod inject;
pub mod load;
pub mod schema;
pub mod tenant;

mod base;
mod command;
mod digest;
mod draft;
mod enforced;
mod explain;
mod host;
mod layer;
mod meant;
mod offer;
mod origin;
mod patterns;
mod problem;
mod report;
mod scalar;
mod settings;
mod source;
mod surroundings;
mod territory;
mod written;

pub use load::{Loaded, load};
pub use meant::layers_required;
pub use offer::Offers;
pub use origin::{Setting, effective};
pub use patterns::{is_endpoint, is_host};
pub use problem::Problem;
pub use surroundings::links_to;
