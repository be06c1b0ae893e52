//! Why an item is proposed.

use vitrine::v1::ReasonCode;

use crate::Doc;

/// Why an item is proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Why, for programs.
    pub code: ReasonCode,
    /// The items that led to it, the one that counted most first; at most 3.
    pub sources: Vec<Doc>,
}

impl Reason {
    /// Why, for people. `title` gives what an item is called; those without a title are left out.
    pub fn text<'a>(&self, title: impl Fn(Doc) -> Option<&'a str>) -> String {
        let titles: Vec<&str> = self.sources.iter().filter_map(|&doc| title(doc)).collect();
        let titles = match titles.as_slice() {
            [] => None,
            [one] => Some((*one).to_owned()),
            [first @ .., last] => Some(format!("{} and {last}", first.join(", "))),
        };
        match (self.code, titles) {
            (ReasonCode::BoughtTogether, Some(titles)) => format!("bought with {titles}"),
            (ReasonCode::Similar, Some(titles)) => format!("similar to {titles}"),
            (ReasonCode::LooksLike, Some(titles)) => format!("looks like {titles}"),
            (ReasonCode::Follows, Some(titles)) => format!("often next after {titles}"),
            (ReasonCode::BoughtTogether, None) => "bought together".to_owned(),
            (ReasonCode::Similar, None) => "similar".to_owned(),
            (ReasonCode::LooksLike, None) => "looks alike".to_owned(),
            (ReasonCode::Follows, None) => "often next".to_owned(),
            (ReasonCode::BuyAgain, _) => "bought regularly".to_owned(),
            (ReasonCode::Next, Some(titles)) => format!("likely next after {titles}"),
            (ReasonCode::Next, None) => "likely next".to_owned(),
            (ReasonCode::Pinned, _) => "chosen by the shop".to_owned(),
            (ReasonCode::Advertised, _) => "advertised".to_owned(),
            (ReasonCode::Explored, _) => "shown by chance".to_owned(),
            (ReasonCode::Popular | ReasonCode::Unspecified, _) => "popular".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_items_that_led_to_it() {
        let title = |doc| ["Whole milk", "Bananas", "Rye bread"].get(doc as usize).copied();
        let text = |code, sources: &[Doc]| Reason { code, sources: sources.to_vec() }.text(title);
        assert_eq!(text(ReasonCode::BoughtTogether, &[0]), "bought with Whole milk");
        assert_eq!(text(ReasonCode::Similar, &[0, 1, 2]), "similar to Whole milk, Bananas and Rye bread");
        assert_eq!(text(ReasonCode::Follows, &[9]), "often next");
        assert_eq!(text(ReasonCode::Popular, &[]), "popular");
    }
}
