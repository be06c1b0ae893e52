//! Reads filters: recursive descent over characters, by hand. The grammar is ten lines, and what matters here is to
//! say where it went wrong and what was expected there, in the words of the person who wrote the filter.

use jiff::civil::{Date, DateTime};
use jiff::{Timestamp, tz::TimeZone};

use super::ast::{Comparator, Condition, Expression, Filter, FilterError, Key, Operand, is_bare};

/// The longest filter, in characters.
const MAX_LENGTH: usize = 4_000;
/// How deep parentheses go.
const MAX_DEPTH: usize = 50;

impl Filter {
    /// Reads a filter. Nothing but space: the filter that matches everything.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let mut parser = Parser { characters: text.chars().collect(), at: 0 };
        if parser.characters.len() > MAX_LENGTH {
            return error(MAX_LENGTH, format!("a filter has at most {MAX_LENGTH} characters"));
        }
        if parser.peek().is_none() {
            return Ok(Self::default());
        }
        let root = parser.conjunction(0)?;
        match parser.peek() {
            None => Ok(Self { root }),
            Some(')') => error(parser.at, "this parenthesis closes nothing"),
            Some(_) => error(parser.at, parser.missing_operator()),
        }
    }
}

fn error<T>(position: usize, message: impl Into<String>) -> Result<T, FilterError> {
    Err(FilterError { position, message: message.into() })
}

struct Parser {
    characters: Vec<char>,
    at: usize,
}

/// A key or value as it stands there.
struct Token {
    text: String,
    quoted: bool,
    position: usize,
}

impl Parser {
    /// The next character that is not space.
    fn peek(&mut self) -> Option<char> {
        while self.characters.get(self.at).is_some_and(|character| character.is_whitespace()) {
            self.at += 1;
        }
        self.characters.get(self.at).copied()
    }

    /// Takes the word if it stands here as a word of its own.
    fn take_word(&mut self, word: &str) -> bool {
        self.peek();
        let end = self.at + word.len();
        let here = self.characters.get(self.at..end).is_some_and(|here| here.iter().copied().eq(word.chars()));
        let found = here && !self.characters.get(end).is_some_and(|next| is_bare(*next));
        if found {
            self.at = end;
        }
        found
    }

    fn conjunction(&mut self, depth: usize) -> Result<Option<Expression>, FilterError> {
        let mut parts = Vec::new();
        loop {
            parts.extend(self.alternatives(depth)?);
            if !self.take_word("AND") {
                return Ok(Expression::all(parts));
            }
        }
    }

    fn alternatives(&mut self, depth: usize) -> Result<Option<Expression>, FilterError> {
        let mut parts = Vec::new();
        loop {
            parts.extend(self.term(depth)?);
            if !self.take_word("OR") {
                return Ok(Expression::any(parts));
            }
        }
    }

    fn term(&mut self, depth: usize) -> Result<Option<Expression>, FilterError> {
        let negative = if self.peek() == Some('-') {
            self.at += 1;
            true
        } else {
            self.take_word("NOT")
        };
        let inner = if self.peek() == Some('(') {
            if depth == MAX_DEPTH {
                return error(self.at, format!("parentheses go at most {MAX_DEPTH} deep"));
            }
            let opened = self.at;
            self.at += 1;
            let inner = self.conjunction(depth + 1)?;
            match self.peek() {
                Some(')') => self.at += 1,
                Some(_) => return error(self.at, self.missing_operator()),
                None => return error(self.at, format!("expected `)` for the parenthesis at character {opened}")),
            }
            inner
        } else {
            Some(Expression::Condition(self.condition()?))
        };
        Ok(if negative { inner.map(|inner| Expression::Not(Box::new(inner))) } else { inner })
    }

    fn condition(&mut self) -> Result<Condition, FilterError> {
        let key = self.key()?;
        let position = { (self.peek(), self.at).1 };
        let comparator = self.comparator()?;
        check_comparator(&key, comparator, position)?;
        if self.peek() == Some('*') && comparator == Comparator::Has {
            self.at += 1;
            return Ok(Condition { key, comparator, operand: Operand::Any });
        }
        let value = self.token(true, "a value: a word, a number, or a text in quotes")?;
        let operand = operand(&key, comparator, value)?;
        Ok(Condition { key, comparator, operand })
    }

    fn key(&mut self) -> Result<Key, FilterError> {
        const EXPECTED: &str = "a key, as `brand`, `price` or `attributes.colour`";
        let token = self.token(false, EXPECTED)?;
        if token.quoted {
            return Ok(Key::Attribute(token.text));
        }
        if ["AND", "OR", "NOT"].contains(&token.text.as_str()) {
            return error(token.position, format!("expected {EXPECTED}, not `{}`", token.text));
        }
        if token.text != "attributes." && token.text != "attributes" {
            return Ok(Key::named(&token.text));
        }
        let next = self.characters.get(self.at);
        if token.text == "attributes." && next.is_some_and(|next| ['"', '\''].contains(next)) {
            return Ok(Key::Attribute(self.token(false, "an attribute's name")?.text));
        }
        error(self.at, "expected an attribute's name, as `attributes.colour` or `attributes.\"shoe size\"`")
    }

    fn comparator(&mut self) -> Result<Comparator, FilterError> {
        let expected = "expected a comparator: = != < <= > >= or :";
        let first = self.peek();
        let equal = self.characters.get(self.at + 1) == Some(&'=');
        let (comparator, length) = match (first, equal) {
            (Some('!'), true) => (Comparator::NotEqual, 2),
            (Some('<'), true) => (Comparator::LessOrEqual, 2),
            (Some('>'), true) => (Comparator::GreaterOrEqual, 2),
            (Some('='), _) => (Comparator::Equal, 1),
            (Some('<'), _) => (Comparator::Less, 1),
            (Some('>'), _) => (Comparator::Greater, 1),
            (Some(':'), _) => (Comparator::Has, 1),
            _ => return error(self.at, expected),
        };
        self.at += length;
        Ok(comparator)
    }

    /// A quoted text or a run of bare characters; values may hold colons, as times do.
    fn token(&mut self, value: bool, expected: &str) -> Result<Token, FilterError> {
        let first = self.peek();
        let position = self.at;
        if let Some(quote @ ('"' | '\'')) = first {
            self.at += 1;
            return Ok(Token { text: self.quoted(quote, position)?, quoted: true, position });
        }
        let rest = &self.characters[position..];
        let length = rest.iter().take_while(|next| is_bare(**next) || (value && **next == ':')).count();
        if length == 0 {
            return error(position, format!("expected {expected}"));
        }
        self.at += length;
        Ok(Token { text: rest[..length].iter().collect(), quoted: false, position })
    }

    fn quoted(&mut self, quote: char, opened: usize) -> Result<String, FilterError> {
        let mut text = String::new();
        while let Some(&next) = self.characters.get(self.at) {
            self.at += 1;
            match next {
                '\\' => match self.characters.get(self.at) {
                    Some(&escaped) => {
                        text.push(escaped);
                        self.at += 1;
                    }
                    None => break,
                },
                next if next == quote => return Ok(text),
                next => text.push(next),
            }
        }
        error(self.at, format!("expected {quote} to end the text that begins at character {opened}"))
    }

    /// What to say when something follows a whole condition that should not.
    fn missing_operator(&self) -> String {
        let rest = &self.characters[self.at..];
        let word: String = rest.iter().take_while(|next| is_bare(**next)).collect();
        if ["and", "or"].contains(&word.to_lowercase().as_str()) {
            format!("expected {}: operators are written in capitals", word.to_uppercase())
        } else {
            "expected AND, OR or the end; a value with a space in it needs quotes".to_owned()
        }
    }
}

fn check_comparator(key: &Key, comparator: Comparator, position: usize) -> Result<(), FilterError> {
    let ordering = !matches!(comparator, Comparator::Equal | Comparator::NotEqual | Comparator::Has);
    match key {
        Key::Price | Key::Created | Key::Attribute(_) => Ok(()),
        _ if ordering => error(position, format!("`{key}` has no order: expected =, != or :")),
        _ => Ok(()),
    }
}

/// The value as the key's type has it.
fn operand(key: &Key, comparator: Comparator, value: Token) -> Result<Operand, FilterError> {
    let Token { text, quoted, position } = value;
    match key {
        Key::Id | Key::Title | Key::Brand | Key::Categories | Key::Tags => Ok(Operand::Text(text)),
        Key::Price => number(&text, position).map(Operand::Number),
        Key::Created => time(&text, position).map(Operand::Time),
        Key::Available => match text.as_str() {
            "true" => Ok(Operand::Truth(true)),
            "false" => Ok(Operand::Truth(false)),
            _ => error(position, "expected true or false"),
        },
        Key::Attribute(_) if !matches!(comparator, Comparator::Equal | Comparator::NotEqual | Comparator::Has) => {
            number(&text, position).map(Operand::Number)
        }
        Key::Attribute(_) if quoted => Ok(Operand::Text(text)),
        Key::Attribute(_) => Ok(match text.as_str() {
            "true" => Operand::Truth(true),
            "false" => Operand::Truth(false),
            _ => number(&text, position).map_or(Operand::Text(text), Operand::Number),
        }),
    }
}

fn number(text: &str, position: usize) -> Result<f64, FilterError> {
    // Rust also reads `inf` and `nan`.
    let digits = text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first));
    match text.parse::<f64>() {
        Ok(number) if digits && number.is_finite() => Ok(number),
        Ok(_) if digits => error(position, format!("`{text}` is too large a number")),
        _ => error(position, format!("expected a number, as 5 or 2.50, not `{text}`")),
    }
}

fn time(text: &str, position: usize) -> Result<i64, FilterError> {
    let midnight = |date: Date| DateTime::from(date).to_zoned(TimeZone::UTC).map(|time| time.timestamp());
    let time = text.parse::<Timestamp>().or_else(|_| text.parse::<Date>().and_then(midnight));
    match time {
        Ok(time) => Ok(time.as_millisecond()),
        Err(_) => error(position, format!("expected a time, as 2026-01-31T09:00:00Z or 2026-01-31, not `{text}`")),
    }
}

#[cfg(test)]
mod tests;
