//! The single values of a file: sizes, durations, counts, each with the place where it was written.
//!
//! A value that is none of these is refused with serde's own "expected ..., for example ...", which
//! `explain` turns into a sentence with a cure. Nothing here knows what a value is for.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

use super::tenant::Limit;

/// A value and where it was written, in the address space of all sources of one load.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) span: Range<usize>,
    pub(super) value: T,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = toml::Spanned::<T>::deserialize(deserializer)?;
        Ok(Self { span: spanned.span(), value: spanned.into_inner() })
    }
}

// Keys of maps are `At<String>`: two of them are the same key wherever they were written.
impl<T: Ord> Ord for At<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.value.cmp(&other.value)
    }
}

impl<T: Ord> PartialOrd for At<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ord> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T: Ord> Eq for At<T> {}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A single value that can be written in more ways than one.
pub(super) trait Scalar: Sized {
    /// What it is, as in "is not a size".
    const KIND: &'static str;
    /// One that would do, as written in a file.
    const EXAMPLE: &'static str;

    /// From text.
    fn text(_text: &str) -> Option<Self> {
        None
    }

    /// From an integer.
    fn integer(_integer: i64) -> Option<Self> {
        None
    }

    /// From a number with a fraction.
    fn float(_float: f64) -> Option<Self> {
        None
    }

    /// The shape for editors.
    fn shape() -> Schema;
}

struct ScalarVisitor<T>(PhantomData<T>);

impl<T: Scalar> Visitor<'_> for ScalarVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, for example {}", T::KIND, T::EXAMPLE)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::text(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }

    fn visit_i64<E: Error>(self, integer: i64) -> Result<T, E> {
        T::integer(integer).ok_or_else(|| E::invalid_value(Unexpected::Signed(integer), &self))
    }

    fn visit_f64<E: Error>(self, float: f64) -> Result<T, E> {
        T::float(float).ok_or_else(|| E::invalid_value(Unexpected::Float(float), &self))
    }
}

macro_rules! scalar {
    ($type:ty, $name:literal $(, $generic:ident)?) => {
        impl<'de $(, $generic: Scalar)?> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(ScalarVisitor(PhantomData))
            }
        }

        impl $(<$generic: Scalar>)? JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                <$type as Scalar>::shape()
            }
        }
    };
}

/// Bytes: `"512MiB"`, `"1GB"`, or a plain number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);
scalar!(Size, "Size");

/// Suffix and factor; two letters are decimal, three are binary (IEC 80000-13).
const SIZES: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

impl Scalar for Size {
    const KIND: &'static str = "a size";
    const EXAMPLE: &'static str = "\"512MiB\"";

    fn text(text: &str) -> Option<Self> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let (_, factor) = SIZES.iter().find(|(suffix, _)| text[digits.len()..] == **suffix)?;
        decimal(digits)?.checked_mul(*factor).filter(|bytes| *bytes > 0).map(Self)
    }

    fn integer(integer: i64) -> Option<Self> {
        u64::try_from(integer).ok().filter(|bytes| *bytes > 0).map(Self)
    }

    fn shape() -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string", "pattern": "^[0-9]+([KMGT]iB|kB|[MGT]B|B)$" },
            { "type": "integer", "minimum": 1 },
        ]})
    }
}

/// A span of time: `"500ms"`, `"9s"`, `"10m"`, `"1h30m"`, `"7d"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Period(pub(super) Duration);
scalar!(Period, "Period");

impl Scalar for Period {
    const KIND: &'static str = "a duration";
    const EXAMPLE: &'static str = "\"10m\"";

    fn text(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut total = 0_u64;
        while !rest.is_empty() {
            let unit_at = rest.find(|c: char| !c.is_ascii_digit())?;
            let (digits, tail) = rest.split_at(unit_at);
            let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, next) = tail.split_at(unit_end);
            total = total.checked_add(decimal(digits)?.checked_mul(milliseconds(unit)?)?)?;
            rest = next;
        }
        // A century is more than anybody means, and far from where Instant overflows.
        (1..=100 * 366 * 86_400_000).contains(&total).then(|| Self(Duration::from_millis(total)))
    }

    fn shape() -> Schema {
        json_schema!({ "type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$" })
    }
}

fn milliseconds(unit: &str) -> Option<u64> {
    match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    }
}

/// Digits only: no sign, no space, which `str::parse` would let pass.
fn decimal(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// A number of things, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count(pub(super) u32);
scalar!(Count, "Count");

impl Scalar for Count {
    const KIND: &'static str = "a whole number of at least 1";
    const EXAMPLE: &'static str = "32";

    fn integer(integer: i64) -> Option<Self> {
        u32::try_from(integer).ok().filter(|count| *count > 0).map(Self)
    }

    fn shape() -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": u32::MAX })
    }
}

/// A share of processor time; 1.0 is one core.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cores(pub(super) f64);
scalar!(Cores, "Cores");

impl Scalar for Cores {
    const KIND: &'static str = "a number of cores";
    const EXAMPLE: &'static str = "1.0";

    fn integer(integer: i64) -> Option<Self> {
        i32::try_from(integer).ok().and_then(|cores| Self::float(cores.into()))
    }

    fn float(float: f64) -> Option<Self> {
        // The smallest quota that cgroup v2 takes is 1 ms in 100 ms.
        (0.01..=65_536.0).contains(&float).then_some(Self(float))
    }

    fn shape() -> Schema {
        json_schema!({ "type": "number", "minimum": 0.01, "maximum": 65536 })
    }
}

/// A value that may be without bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bound<T>(pub(super) Limit<T>);
scalar!(Bound<T>, "Bound", T);

impl<T: Scalar> Scalar for Bound<T> {
    const KIND: &'static str = T::KIND;
    const EXAMPLE: &'static str = T::EXAMPLE;

    fn text(text: &str) -> Option<Self> {
        if text == "unlimited" {
            return Some(Self(Limit::Unlimited));
        }
        T::text(text).map(|value| Self(Limit::At(value)))
    }

    fn integer(integer: i64) -> Option<Self> {
        T::integer(integer).map(|value| Self(Limit::At(value)))
    }

    fn float(float: f64) -> Option<Self> {
        T::float(float).map(|value| Self(Limit::At(value)))
    }

    fn shape() -> Schema {
        let mut inner = T::shape().to_value();
        let mut shapes = match inner.get_mut("anyOf").and_then(|any| any.as_array_mut()) {
            Some(several) => std::mem::take(several),
            None => vec![inner],
        };
        shapes.push(serde_json::json!({ "const": "unlimited" }));
        json_schema!({ "anyOf": shapes })
    }
}

impl<T> Bound<T> {
    /// The limit, its value turned into what it means.
    pub(super) fn limit<U>(self, meaning: impl FnOnce(T) -> U) -> Limit<U> {
        match self.0 {
            Limit::At(value) => Limit::At(meaning(value)),
            Limit::Unlimited => Limit::Unlimited,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_with_a_unit() {
        for (text, bytes) in [("512MiB", 512 << 20), ("1GiB", 1 << 30), ("7B", 7), ("3kB", 3000)] {
            assert_eq!(Size::text(text), Some(Size(bytes)), "{text}");
        }
        for text in ["", "lots", "1", "1G", "-1MiB", "+1MiB", "1 MiB", "1.5GiB", "0B", "MiB"] {
            assert_eq!(Size::text(text), None, "{text}");
        }
        assert_eq!(Size::text("99999999999999999999TiB"), None);
        assert_eq!(Size::text("99999999TiB"), None);
    }

    #[test]
    fn a_duration_needs_a_unit() {
        for (text, ms) in [("500ms", 500), ("9s", 9_000), ("10m", 600_000), ("1h30m", 5_400_000)] {
            assert_eq!(Period::text(text), Some(Period(Duration::from_millis(ms))), "{text}");
        }
        for text in ["", "9", "s", "0s", "1 h", "-1s", "1y", "99999999999999999999s", "999999d"] {
            assert_eq!(Period::text(text), None, "{text}");
        }
        assert_eq!(Period::integer(9), None);
    }

    #[test]
    fn a_count_is_at_least_one() {
        assert_eq!(Count::integer(1), Some(Count(1)));
        assert_eq!(Count::integer(0), None);
        assert_eq!(Count::integer(-1), None);
        assert_eq!(Count::integer(1 << 40), None);
        assert_eq!(Bound::<Count>::text("unlimited"), Some(Bound(Limit::Unlimited)));
        assert_eq!(Bound::<Count>::text("Unlimited"), None);
    }

    #[test]
    fn cores_are_finite_and_positive() {
        assert_eq!(Cores::integer(2), Some(Cores(2.0)));
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Cores::float(bad), None, "{bad}");
        }
    }
}
