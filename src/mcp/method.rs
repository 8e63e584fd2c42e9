//! What the specification says of requests by their method: which may ask for input, whose results may be
//! kept, which change nothing.

/// The methods that are treated alike by name alone, wherever they come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// `tools/call`
    Call,
    /// `prompts/get`
    Prompt,
    /// `resources/read`
    Read,
    /// `tools/list`
    Tools,
    /// `prompts/list`
    Prompts,
    /// `resources/list`
    Resources,
    /// `resources/templates/list`
    Templates,
    /// `completion/complete`
    Completion,
    /// `server/discover`
    Discover,
    /// `tasks/get`, of either era
    Task,
    /// Any other.
    Other,
}

impl Method {
    /// The method of that name.
    pub fn of(name: &str) -> Self {
        match name {
            "tools/call" => Self::Call,
            "prompts/get" => Self::Prompt,
            "resources/read" => Self::Read,
            "tools/list" => Self::Tools,
            "prompts/list" => Self::Prompts,
            "resources/list" => Self::Resources,
            "resources/templates/list" => Self::Templates,
            "completion/complete" => Self::Completion,
            "server/discover" => Self::Discover,
            "tasks/get" => Self::Task,
            _ => Self::Other,
        }
    }

    /// Whether its result may be `input_required` (2026-07-28, basic/patterns/mrtr#supported-requests).
    pub fn may_need_input(self) -> bool {
        matches!(self, Self::Call | Self::Prompt | Self::Read)
    }

    /// Whether its modern result says how long it may be kept and by whom (2026-07-28,
    /// server/utilities/caching#cacheable-results).
    pub fn is_cacheable(self) -> bool {
        self.is_list() || matches!(self, Self::Read | Self::Discover)
    }

    /// Whether it lists what a server has.
    pub fn is_list(self) -> bool {
        matches!(self, Self::Tools | Self::Prompts | Self::Resources | Self::Templates)
    }

    /// Whether it asks and, by its meaning, changes nothing; of a call only its tool can say that.
    pub fn is_read_only(self) -> bool {
        self.is_cacheable() || matches!(self, Self::Prompt | Self::Completion | Self::Task)
    }
}
