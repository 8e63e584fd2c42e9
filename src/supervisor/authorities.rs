//! Whom a server and its egress believe: the system's authorities, and those of `egress.ca_file`.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use super::child::{PrepareError, Prepared, text};
use super::ways;
use crate::paths::Layout;

impl Prepared {
    /// Lets it trust the authorities in this file besides the system's, and its egress know hosts by them.
    pub(super) fn believe(
        &mut self,
        ca_file: Option<&Path>,
        layout: &Layout,
    ) -> Result<(), PrepareError> {
        match ca_file {
            Some(ca_file) => self.trust(ca_file, layout),
            None if self.injects() => {
                let failed =
                    |source| PrepareError::Authorities { path: "(the system's)".into(), source };
                self.authorities = Some(ways::system_authorities().map_err(failed)?);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn injects(&self) -> bool {
        self.way.as_ref().is_some_and(|way| !way.inject.is_empty())
    }

    /// What egress is given beside it: where secrets wait, and whom it believes.
    pub(super) fn for_egress(&self) -> Vec<BorrowedFd<'_>> {
        let secrets = self.injected.as_ref().map(|injected| injected.reads.as_fd());
        secrets
            .zip(self.authorities.as_ref())
            .map_or_else(Vec::new, |(secrets, authorities)| vec![secrets, authorities.as_fd()])
    }

    /// Lets it trust the authorities in this file besides the system's.
    fn trust(&mut self, ca_file: &Path, layout: &Layout) -> Result<(), PrepareError> {
        let failed = |source| PrepareError::Authorities { path: ca_file.to_owned(), source };
        let bundle = ways::bundle(ca_file, &layout.state).map_err(failed)?;
        if self.injects() {
            self.authorities = Some(File::open(&bundle).map_err(failed)?);
        }
        let bundle = text(&bundle)?;
        for (name, value) in ways::trust(&self.plan.network, &bundle) {
            self.plan.env.entry(name).or_insert(value);
        }
        self.plan.view.read.push(bundle);
        Ok(())
    }
}
