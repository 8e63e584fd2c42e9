//! Which tenants there are: the last good version of each, and its problems.
