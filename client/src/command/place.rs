//! The answers of the shop, as the command line names them.

use clap::ValueEnum;
use vitrine::v1::Placement;

/// Where an answer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Place {
    /// Searches
    Search,
    /// Recommendations to a user or visitor
    ForUser,
    /// Items like others
    Similar,
    /// Recommendations in a session
    Session,
    /// Items bought in the same orders
    BoughtTogether,
    /// What sells
    Popular,
    /// Advertisements
    Ads,
    /// Made pictures
    GenerateImage,
}

impl From<Place> for Placement {
    fn from(place: Place) -> Self {
        match place {
            Place::Search => Self::Search,
            Place::ForUser => Self::ForUser,
            Place::Similar => Self::SimilarToItems,
            Place::Session => Self::ForSession,
            Place::BoughtTogether => Self::BoughtTogether,
            Place::Popular => Self::Popular,
            Place::Ads => Self::Ads,
            Place::GenerateImage => Self::GenerateImage,
        }
    }
}

/// The placement as `--placement` names it; one that this version does not know by its number.
pub fn name(number: i32) -> String {
    let place = Place::value_variants().iter().find(|place| Placement::from(**place) as i32 == number);
    let value = place.and_then(Place::to_possible_value);
    value.map_or_else(|| number.to_string(), |value| value.get_name().to_owned())
}
