//! Readable names for the retail data, whose source has capitals and abbreviations cut at 30 characters: `FRZN BREADED
//! PREPARED CHICK`, `SFT DRNK 2 LITER BTL CARB INCL`. Whole names that need it are in `titles/types.txt` and its
//! neighbours; all others are read word by word with `titles/words.txt`.

use std::collections::HashMap;

/// What the source says of a product, as it says it.
#[derive(Debug, Clone, Copy)]
pub struct Raw<'a> {
    pub department: &'a str,
    pub category: Option<&'a str>,
    pub product_type: Option<&'a str>,
    pub size: Option<&'a str>,
}

/// What people read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    pub title: String,
    /// Department, category and type, from the general to the special.
    pub path: String,
    pub size: Option<String>,
}

/// Sizes that say nothing in a title.
const NO_SIZE: [&str; 3] = ["1 ct", "assortment", "1 each"];

/// Codes of coffee grinds.
const GRINDS: [&str; 9] = ["AB", "ALL", "B", "D", "EX", "L", "N", "P", "R"];

/// Goods that the source names first and people name last: `ONIONS SWEET` are sweet onions.
const GOES_LAST: [&str; 19] = [
    "APPLES",
    "CARROTS",
    "CAULIFLOWER",
    "CHERRIES",
    "EGGS",
    "GRAPES",
    "HERBS",
    "MARGARINE",
    "MUSHROOMS",
    "NECTARINES",
    "ONIONS",
    "ORANGES",
    "PEACHES",
    "PEARS",
    "PEAS",
    "PEPPERS",
    "POTATOES",
    "TANGERINES",
    "TOMATOES",
];

pub struct Titles {
    words: HashMap<&'static str, &'static str>,
    types: HashMap<&'static str, &'static str>,
    /// The name, and what one product of the category is called.
    categories: HashMap<&'static str, (&'static str, &'static str)>,
    departments: HashMap<&'static str, &'static str>,
}

impl Titles {
    pub fn new() -> Self {
        let noun = |value: &'static str| value.split_once(" | ").unwrap_or((value, value));
        let categories = table(include_str!("titles/categories.txt"));
        Self {
            words: table(include_str!("titles/words.txt")),
            types: table(include_str!("titles/types.txt")),
            categories: categories.into_iter().map(|(raw, value)| (raw, noun(value))).collect(),
            departments: table(include_str!("titles/departments.txt")),
        }
    }

    pub fn names(&self, raw: &Raw<'_>) -> Names {
        let department =
            self.departments.get(raw.department).map_or_else(|| self.phrase(raw.department), |d| (*d).into());
        let category = raw.category.map(|category| self.category(category));
        let size = raw.size.map(readable_size);
        let kind = raw.product_type.map(|kind| {
            let noun = category.as_ref().map_or(department.as_str(), |(_, noun)| noun.as_str());
            self.product_type(kind, noun)
        });
        let (title, segment) = match &kind {
            Some((title, segment)) => (title.clone(), Some(segment.clone())),
            None => (category.as_ref().map_or_else(|| department.clone(), |(name, _)| name.clone()), None),
        };
        let mut path = department;
        for part in [category.map(|(name, _)| name), segment].into_iter().flatten() {
            // `Milk > Milk` says no more than `Milk`.
            if path.rsplit(" > ").next() != Some(&part) {
                path = format!("{path} > {part}");
            }
        }
        let said = |size: &str| title.contains(size) || title.contains(&size.replace(" L", " liter"));
        let shown = size.as_deref().filter(|size| !NO_SIZE.contains(size) && !said(size));
        let title = shown.map_or_else(|| title.clone(), |size| format!("{title}, {size}"));
        Names { title, path, size }
    }

    fn category(&self, raw: &str) -> (String, String) {
        match self.categories.get(raw) {
            Some((name, noun)) => ((*name).to_owned(), (*noun).to_owned()),
            None => (self.phrase(raw), self.phrase(raw)),
        }
    }

    /// The title of a product of this type, and the type's name in the category path.
    fn product_type(&self, raw: &str, noun: &str) -> (String, String) {
        let Some(value) = self.types.get(raw) else {
            let name = self.phrase(raw);
            return (name.clone(), name);
        };
        match value.strip_prefix('+') {
            Some(rest) if rest.eq_ignore_ascii_case(noun) => (noun.to_owned(), capitalised(rest)),
            Some(rest) => (format!("{noun}, {rest}"), capitalised(rest)),
            None => ((*value).to_owned(), (*value).to_owned()),
        }
    }

    /// Makes a phrase readable word by word: `TOMATOES: STEWED/DICED/CRMD` is `Tomatoes, stewed, diced and crushed`.
    fn phrase(&self, raw: &str) -> String {
        let spelled = raw.replace("NUT SUPP", "NUTRITION SUPPLEMENTS").replace(" S ", "S ");
        let spelled = spelled.replace("W/O ", "WITHOUT ").replace("W/", "WITH ");
        let mut parts = Vec::new();
        for part in split_parts(&spelled) {
            let items: Vec<String> =
                part.split(['/', '&']).map(|item| self.words(item)).filter(|i| !i.is_empty()).collect();
            let listed = match items.as_slice() {
                [] => continue,
                [one] => one.clone(),
                [first @ .., last] => format!("{} and {last}", first.join(", ")),
            };
            parts.push(listed);
        }
        // The noun that says what it is goes last in English: `Magazine, home decor` is a `Home decor magazine`.
        if parts.len() > 1 && parts.last().is_some_and(|last| last == "magazine") {
            parts.pop();
            let subject = parts.join(", ");
            parts = vec![format!("{subject} magazine")];
        }
        capitalised(&parts.join(", "))
    }

    fn words(&self, text: &str) -> String {
        let mut whole = text.trim();
        for tail in ["OTHERS", "OTHER", "ALL", "BULK", "BAG"] {
            let shorter = whole.strip_suffix(tail).filter(|rest| rest.is_empty() || rest.ends_with(' '));
            whole = shorter.map_or(whole, str::trim_end);
        }
        let swapped = whole.split_once(' ').filter(|(noun, _)| GOES_LAST.contains(noun));
        let whole = swapped.map_or_else(|| whole.to_owned(), |(noun, rest)| format!("{rest} {noun}"));
        let words = whole.split_whitespace().map(|word| match self.words.get(word) {
            Some(readable) => (*readable).to_owned(),
            None => word.to_lowercase(),
        });
        words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

/// The parts of a phrase between colons, commas, dashes that are no hyphens, and brackets; an open bracket at the end was cut.
fn split_parts(text: &str) -> Vec<String> {
    let text = match (text.rfind('('), text.rfind(')')) {
        (Some(open), None) => text.split_at(open).0,
        (Some(open), Some(close)) if open > close => text.split_at(open).0,
        _ => text,
    };
    let mut parts = vec![String::new()];
    for piece in text.split_inclusive(['(', ')', ':', ',', '-', ' ']) {
        let word = piece.trim_end_matches(['(', ')', ':', ',', '-', ' ']);
        let hyphen = piece.ends_with('-') && is_prefix(word);
        let ends = !hyphen && piece.ends_with(['(', ')', ':', ',', '-']);
        if let Some(part) = parts.last_mut() {
            part.push_str(if ends { word } else { piece });
        }
        if ends {
            parts.push(String::new());
        }
    }
    parts
}

/// Whether a dash after this belongs to the word.
fn is_prefix(word: &str) -> bool {
    let last = word.rsplit(['/', '&']).next().unwrap_or(word);
    let prefixes = [
        "ANTI", "BONE", "BI", "BY", "CD", "J", "MAKE", "MULTI", "NON", "POST", "PRE", "READY", "RIDE", "ROLL", "SEMI",
        "T", "TO", "X",
    ];
    prefixes.contains(&last) || (!last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()))
}

/// A size as people write it: `12 PK/12 OZ` is `12 × 12 oz`, `.5 GA` is `0.5 gal`.
fn readable_size(raw: &str) -> String {
    // Coffee has a code for the grind before its size.
    let words: Vec<&str> = raw.trim_end_matches('*').split_whitespace().collect();
    // Tobacco has the packer's number before it.
    let words = match words.as_slice() {
        [number, rest @ ..] if !rest.is_empty() && number.len() == 6 && number.bytes().all(|b| b.is_ascii_digit()) => {
            rest
        }
        all => all,
    };
    let codes = words.iter().take_while(|word| GRINDS.contains(word)).count();
    let is_sized = words.get(codes).is_some_and(|word| word.starts_with(|c: char| c.is_ascii_digit() || c == '.'));
    let raw = words.get(if is_sized { codes } else { 0 }..).unwrap_or_default().join(" ");
    match raw.split_once('/').or_else(|| raw.split_once(" PK ")) {
        Some((left, right)) => pack(left.trim(), right.trim()).unwrap_or_else(|| plain_size(&raw)),
        None => plain_size(&raw),
    }
}

/// `12 PK/12 OZ`, `12 OZ/12 PK`, `10/6.75 OZ`; but not `1/2 GAL`, `10 3/4 OZ`, `56/64 CT`.
fn pack(left: &str, right: &str) -> Option<String> {
    let is_pack = |text: &str| text.ends_with("PK");
    let count = |text: &str| {
        let digits = text.strip_suffix("PK").map_or(text, str::trim_end);
        let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| digits.to_owned())
    };
    if is_pack(right) && !is_pack(left) {
        return Some(format!("{} × {}", count(right)?, plain_size(left)));
    }
    let many = count(left)?;
    let (each, unit) = right.split_once(' ')?;
    if unit == "CT" && many.len() > 1 && !is_pack(left) {
        return Some(format!("{many} to {each} ct"));
    }
    let fraction =
        matches!((many.as_str(), each), ("1", "2" | "3" | "4" | "8") | ("2", "3") | ("3" | "5" | "7", "4" | "8"));
    if unit.contains(" X ") || unit.starts_with("X ") || (fraction && !is_pack(left)) {
        return None;
    }
    Some(format!("{many} × {}", plain_size(right)))
}

fn plain_size(raw: &str) -> String {
    let words = raw.split_whitespace().map(|word| {
        let unit = match word {
            "GA" | "GAL" => "gal",
            "L" | "LT" | "LTR" | "LRT" => "L",
            "LD" | "LOAD" | "LOADS" => "loads",
            "DZ" | "DOZ" => "dozen",
            "PK" => "pack",
            "PC" => "pieces",
            "STEM" => "stems",
            "CTN" => "carton",
            "BTL" => "bottle",
            "MED" => "medium",
            "LRG" | "LG" => "large",
            "SM" => "small",
            "EA" => "each",
            "RL" => "rolls",
            "Z" => "oz",
            _ => return number(word),
        };
        unit.to_owned()
    });
    let size = words.collect::<Vec<_>>().join(" ");
    match size.as_str() {
        "gal" | "qt" | "pt" | "lb" | "L" | "oz" | "dozen" => format!("1 {size}"),
        "1 stems" => "1 stem".to_owned(),
        _ => size,
    }
}

/// `.50` is `0.5`, `11.0` is `11`, and other words are in small letters.
fn number(word: &str) -> String {
    let is_number = word.contains('.') && word.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if !is_number {
        return word.to_lowercase();
    }
    let short = word.trim_end_matches('0').trim_end_matches('.').trim_start_matches('0');
    if short.is_empty() || short.starts_with('.') { format!("0{short}") } else { short.to_owned() }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Lines `RAW = readable`; those that begin with `#` are for people.
fn table(text: &'static str) -> HashMap<&'static str, &'static str> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(" = ").or_else(|| Some((line.strip_suffix(" =")?, "")))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn title(department: &str, category: &str, product_type: &str, size: &str) -> String {
        let optional = |text| Some(text).filter(|text: &&str| !text.is_empty());
        let raw = Raw {
            department,
            category: optional(category),
            product_type: optional(product_type),
            size: optional(size),
        };
        Titles::new().names(&raw).title
    }

    #[test]
    fn names_that_were_cut_are_completed() {
        let title = |product_type| title("GROCERY", "SOFT DRINKS", product_type, "");
        assert_eq!(title("SOFT DRINKS 12/18&15PK CAN CAR"), "Soft drink, 12 to 18 cans");
        assert_eq!(title("FLUID MILK WHITE ONLY"), "White milk");
        assert_eq!(title("SINGLE SERVE/MULTI-PK CKTLS <="), "Cocktails, single serve or multi-pack");
    }

    #[test]
    fn other_names_are_read_word_by_word() {
        let title = |product_type| title("GROCERY", "BAG SNACKS", product_type, "");
        assert_eq!(title("FRZN GARLIC BREAD/TOAST/STICKS"), "Frozen garlic bread, toast and sticks");
        assert_eq!(title("TOMATOES: STEWED/DICED/CRMD"), "Tomatoes, stewed, diced and crushed");
        assert_eq!(title("SPICES & SEASONINGS"), "Spices and seasonings");
        assert_eq!(title("ONIONS SWEET (BULK&BAG)"), "Sweet onions");
        assert_eq!(title("AUTOMOBILE-MAGAZINE"), "Automobile magazine");
        assert_eq!(title("WOMEN S GENERAL-MAGAZINE"), "Women's general magazine");
        assert_eq!(title("NON-DAIRY CHEESE"), "Non-dairy cheese");
        assert_eq!(title("CANDY BARS (SINGLES)(OPEN"), "Candy bars, singles");
    }

    #[test]
    fn a_type_that_says_little_gets_its_category_first() {
        assert_eq!(title("GROCERY", "ICE CREAM/MILK/SHERBTS", "PREMIUM", "56 OZ"), "Ice cream, premium, 56 oz");
        assert_eq!(title("MEAT-PCKGD", "BACON", "PREMIUM", "16 OZ"), "Bacon, premium, 16 oz");
        assert_eq!(title("MISCELLANEOUS", "", "", ""), "Miscellaneous");
    }

    #[test]
    fn a_size_is_said_once() {
        let title = |size| title("GROCERY", "SOFT DRINKS", "SFT DRNK 2 LITER BTL CARB INCL", size);
        assert_eq!(title("2 L"), "Soft drink, 2 liter bottle");
        assert_eq!(title("67.6 OZ"), "Soft drink, 2 liter bottle, 67.6 oz");
    }

    #[test]
    fn the_path_goes_from_department_to_type() {
        let raw = Raw {
            department: "GROCERY",
            category: Some("FLUID MILK PRODUCTS"),
            product_type: Some("FLUID MILK WHITE ONLY"),
            size: None,
        };
        assert_eq!(Titles::new().names(&raw).path, "Grocery > Milk > White milk");
    }

    #[test]
    fn sizes_are_written_as_people_do() {
        let written = [
            ("16 OZ", "16 oz"),
            (".5 GA", "0.5 gal"),
            ("0.85 OZ", "0.85 oz"),
            ("11.0 OZ", "11 oz"),
            ("12 PK/12 OZ", "12 × 12 oz"),
            ("12 OZ/12 PK", "12 × 12 oz"),
            ("6 PK  12 OZ", "6 × 12 oz"),
            ("10/6.75 OZ", "10 × 6.75 oz"),
            ("1/2 GAL", "1/2 gal"),
            ("10 3/4 OZ", "10 3/4 oz"),
            ("56/64 CT", "56 to 64 ct"),
            ("AB    8 OZ", "8 oz"),
            ("523217 CTN", "carton"),
            ("2 L*", "2 L"),
            ("GAL", "1 gal"),
            ("32 LD", "32 loads"),
            ("", ""),
        ];
        for (raw, size) in written {
            assert_eq!(readable_size(raw), size, "{raw}");
        }
    }

    #[test]
    fn no_name_is_given_twice_in_a_table() {
        for text in
            [include_str!("titles/types.txt"), include_str!("titles/words.txt"), include_str!("titles/categories.txt")]
        {
            let lines = text.lines().filter(|line| !line.starts_with('#')).count();
            assert_eq!(table(text).len(), lines);
        }
    }
}
