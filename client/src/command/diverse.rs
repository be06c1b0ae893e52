//! How results are to differ from each other, on the command line.

use clap::Args;
use vitrine::v1::Diversity;

/// Of searches and recommendations.
#[derive(Debug, Args)]
pub struct Diverse {
    /// Make the results differ from each other: 1 is relevance only, 0 difference only
    #[arg(long, value_name = "LAMBDA")]
    mmr_lambda: Option<f64>,
    /// No more than N results with the same brand, category or attribute before others, as `2:brand`
    #[arg(long, value_name = "N:KEY", value_parser = cap)]
    cap: Option<(i32, String)>,
}

impl Diverse {
    /// As a request has it.
    pub fn request(&self) -> Option<Diversity> {
        let (cap, cap_by) = self.cap.clone().unwrap_or_default();
        let wanted = Diversity { mmr_lambda: self.mmr_lambda, candidates: 0, cap_by, cap };
        (wanted != Diversity::default()).then_some(wanted)
    }
}

fn cap(text: &str) -> Result<(i32, String), String> {
    let (count, key) = text.split_once(':').ok_or("must look like N:KEY, as 2:brand")?;
    let count = count.parse().map_err(|_| format!("`{count}` is no number"))?;
    Ok((count, key.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_is_a_number_and_a_key() {
        assert_eq!(cap("2:attributes.size").unwrap(), (2, "attributes.size".to_owned()));
        assert!(cap("brand").is_err() && cap("two:brand").is_err());
        assert_eq!(Diverse { mmr_lambda: None, cap: None }.request(), None);
    }
}
