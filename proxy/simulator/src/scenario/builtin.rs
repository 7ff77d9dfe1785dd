//! The scenarios that ship, in `config/scenarios/`.

/// A scenario that ships.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// Its name.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! builtin {
    ($($name:literal),* $(,)?) => {
        /// Every one, by name.
        pub const BUILTIN: &[Builtin] = &[$(Builtin {
            name: $name,
            text: include_str!(concat!("../../../../config/scenarios/", $name, ".toml")),
        }),*];
    };
}

builtin![
    "bad-release",
    "busy",
    "cold",
    "failing",
    "flapping",
    "half-failing",
    "healthy",
    "hung",
    "large",
    "overload",
    "rolling-restart",
    "slow",
    "zone-gone",
];
