//! What a filter says, as a tree, and how it is written down again.

use std::fmt;

use jiff::Timestamp;
use thiserror::Error;

/// A filter or an order that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("at character {position}: {message}")]
pub struct FilterError {
    /// Where, in characters from 0.
    pub position: usize,
    /// What is wrong there, and what would be right.
    pub message: String,
}

/// A parsed filter. The default matches every item.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    pub(super) root: Option<Expression>,
}

/// A condition, or several joined.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// All of them hold. Never holds another `And`.
    And(Vec<Expression>),
    /// One of them holds. Never holds another `Or`.
    Or(Vec<Expression>),
    /// It does not hold.
    Not(Box<Expression>),
    /// A single condition.
    Condition(Condition),
}

/// One comparison of a key's values with an operand of the key's type.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// What is compared.
    pub key: Key,
    /// How.
    pub comparator: Comparator,
    /// With what.
    pub operand: Operand,
}

/// What an item can be filtered, counted and sorted by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// The item's id.
    Id,
    /// Its title.
    Title,
    /// Its brand.
    Brand,
    /// Its category paths.
    Categories,
    /// Its tags.
    Tags,
    /// Its price's amount, whatever the currency.
    Price,
    /// Whether it can be bought.
    Available,
    /// When it was added.
    Created,
    /// An attribute, by name.
    Attribute(String),
}

/// How a condition compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `:`
    Has,
}

/// What a condition compares with.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// `*`, with [`Comparator::Has`] only: any value.
    Any,
    /// A text, as written.
    Text(String),
    /// A finite number.
    Number(f64),
    /// True or false.
    Truth(bool),
    /// A time in Unix milliseconds.
    Time(i64),
}

impl Filter {
    /// Items in this category or one below it, as `categories: "…"` has it.
    pub fn in_category(category: &str) -> Self {
        let operand = Operand::Text(category.to_owned());
        let condition = Condition { key: Key::Categories, comparator: Comparator::Has, operand };
        Self { root: Some(Expression::Condition(condition)) }
    }

    /// Both this filter and `other` hold.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { root: Expression::all([self.root, other.root].into_iter().flatten().collect()) }
    }

    /// This filter without the parts that are only about `keys` (`brand`, `attributes.colour`, …).
    ///
    /// Only parts joined by `AND` at the top can go: a condition on one of the keys, or a parenthesis whose
    /// conditions are all on them, as `(brand = "A" OR brand = "B")`.
    #[must_use]
    pub fn without_keys(&self, keys: &[String]) -> Self {
        let keys: Vec<Key> = keys.iter().map(|key| Key::named(key)).collect();
        let parts = match &self.root {
            None => Vec::new(),
            Some(Expression::And(parts)) => parts.clone(),
            Some(part) => vec![part.clone()],
        };
        Self { root: Expression::all(parts.into_iter().filter(|part| !part.is_only_about(&keys)).collect()) }
    }

    /// Whether it matches everything, because it says nothing.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }
}

impl Expression {
    /// All of `parts` hold; nested conjunctions are made one. None for no parts.
    pub(super) fn all(parts: Vec<Self>) -> Option<Self> {
        Self::join(parts, |part| if let Self::And(inner) = part { Ok(inner) } else { Err(part) }, Self::And)
    }

    /// One of `parts` holds; nested alternatives are made one. None for no parts.
    pub(super) fn any(parts: Vec<Self>) -> Option<Self> {
        Self::join(parts, |part| if let Self::Or(inner) = part { Ok(inner) } else { Err(part) }, Self::Or)
    }

    fn join(
        parts: Vec<Self>,
        open: impl Fn(Self) -> Result<Vec<Self>, Self>,
        make: impl Fn(Vec<Self>) -> Self,
    ) -> Option<Self> {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match open(part) {
                Ok(inner) => flat.extend(inner),
                Err(part) => flat.push(part),
            }
        }
        if flat.len() > 1 { Some(make(flat)) } else { flat.pop() }
    }

    fn is_only_about(&self, keys: &[Key]) -> bool {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().all(|part| part.is_only_about(keys)),
            Self::Not(part) => part.is_only_about(keys),
            Self::Condition(condition) => keys.contains(&condition.key),
        }
    }
}

impl Key {
    /// The key of that name, as it stands in a facet request: a built-in one, or an attribute with or without
    /// `attributes.` before it.
    pub fn named(name: &str) -> Self {
        match name {
            "id" => Self::Id,
            "title" => Self::Title,
            "brand" => Self::Brand,
            "categories" => Self::Categories,
            "tags" => Self::Tags,
            "price" => Self::Price,
            "available" => Self::Available,
            "created" => Self::Created,
            name => Self::Attribute(name.strip_prefix("attributes.").unwrap_or(name).to_owned()),
        }
    }
}

/// Whether a character can stand in a bare key or value.
pub(super) fn is_bare(character: char) -> bool {
    !character.is_whitespace() && !character.is_control() && !"()\"'=!<>:,*\\".contains(character)
}

fn write_quoted(out: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    write!(out, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl fmt::Display for Filter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.as_ref().map_or(Ok(()), |root| root.fmt(out))
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |out: &mut fmt::Formatter<'_>, parts: &[Self], operator: &str| {
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    write!(out, " {operator} ")?;
                }
                match part {
                    Self::And(_) | Self::Or(_) => write!(out, "({part})")?,
                    Self::Not(_) | Self::Condition(_) => part.fmt(out)?,
                }
            }
            Ok(())
        };
        match self {
            Self::And(parts) => joined(out, parts, "AND"),
            Self::Or(parts) => joined(out, parts, "OR"),
            Self::Not(part) => match **part {
                Self::Condition(_) => write!(out, "NOT {part}"),
                _ => write!(out, "NOT ({part})"),
            },
            Self::Condition(condition) => condition.fmt(out),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {} ", self.key, self.comparator)?;
        match &self.operand {
            Operand::Any => out.write_str("*"),
            Operand::Text(text) => write_quoted(out, text),
            Operand::Number(number) => write!(out, "{number}"),
            Operand::Truth(truth) => write!(out, "{truth}"),
            Operand::Time(ms) => match Timestamp::from_millisecond(*ms) {
                Ok(time) => write!(out, "\"{time}\""),
                Err(_) => write!(out, "\"{ms}\""),
            },
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Id => "id",
            Self::Title => "title",
            Self::Brand => "brand",
            Self::Categories => "categories",
            Self::Tags => "tags",
            Self::Price => "price",
            Self::Available => "available",
            Self::Created => "created",
            Self::Attribute(name) => {
                out.write_str("attributes.")?;
                if name.is_empty() || !name.chars().all(is_bare) {
                    return write_quoted(out, name);
                }
                name
            }
        };
        out.write_str(name)
    }
}

impl fmt::Display for Comparator {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Has => ":",
        })
    }
}
