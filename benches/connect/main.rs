//! Direct stdio against `tenantd connect`.

fn main() {}
