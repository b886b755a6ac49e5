//! DynamoDB's ten types under their two names: the API's, and dyndump's.

/// The type of an attribute value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttributeType {
    Binary,
    BinarySet,
    Bool,
    List,
    Map,
    Number,
    NumberSet,
    Null,
    String,
    StringSet,
}

impl AttributeType {
    const ALL: [Self; 10] = [
        Self::Binary,
        Self::BinarySet,
        Self::Bool,
        Self::List,
        Self::Map,
        Self::Number,
        Self::NumberSet,
        Self::Null,
        Self::String,
        Self::StringSet,
    ];

    /// The API's name: `NS`.
    pub(super) fn descriptor(self) -> &'static str {
        match self {
            Self::Binary => "B",
            Self::BinarySet => "BS",
            Self::Bool => "BOOL",
            Self::List => "L",
            Self::Map => "M",
            Self::Number => "N",
            Self::NumberSet => "NS",
            Self::Null => "NULL",
            Self::String => "S",
            Self::StringSet => "SS",
        }
    }

    /// dyndump's name: `number-set`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::BinarySet => "binary-set",
            Self::Bool => "bool",
            Self::List => "list",
            Self::Map => "map",
            Self::Number => "number",
            Self::NumberSet => "number-set",
            Self::Null => "null",
            Self::String => "string",
            Self::StringSet => "string-set",
        }
    }

    pub(super) fn of_descriptor(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.descriptor() == text)
    }

    pub(super) fn of_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == text)
    }
}
