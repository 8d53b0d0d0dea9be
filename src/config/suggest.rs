//! Guesses what was meant by a word that is not known.

use super::raw::RawFile;
use super::shape::Shape;

/// Keys of other programs, and what they are called here.
const FOREIGN: [(&str, &str); 17] = [
    ("identifiers", "domains"),
    ("identifier", "domains"),
    ("domain", "domains"),
    ("hosts", "domains"),
    ("host", "domains"),
    ("sans", "domains"),
    ("subject_alternative_names", "domains"),
    ("email", "contact"),
    ("emails", "contact"),
    ("contacts", "contact"),
    ("agree_tos", "terms_of_service_agreed"),
    ("tos_agreed", "terms_of_service_agreed"),
    ("accept_tos", "terms_of_service_agreed"),
    ("key_type", "key"),
    ("server", "directory"),
    ("post_hook", "reload"),
    ("deploy_hook", "reload"),
];

/// What to do about the unknown `key` of a table that knows `known`.
pub(super) fn for_key(key: &str, known: &[&str]) -> Option<String> {
    let normal = key.to_ascii_lowercase().replace('-', "_");
    if let Some((_, ours)) = FOREIGN.iter().find(|(foreign, _)| *foreign == normal) {
        return Some(place_of(ours, known));
    }
    let secret = format!("{normal}_file");
    if known.contains(&secret.as_str()) {
        return Some(format!(
            "a secret never stands in the configuration: write `{secret}`, `{normal}_credential` \
             or `{normal}_env`"
        ));
    }
    if let Some(near) = nearest(&normal, known.iter().copied()) {
        return Some(format!("write `{near}`"));
    }
    let top_level = RawFile::FIELDS.iter().any(|it| it.key == normal);
    top_level.then(|| place_of(&normal, known))
}

fn place_of(ours: &str, known: &[&str]) -> String {
    if known.contains(&ours) {
        format!("write `{ours}`")
    } else if RawFile::FIELDS.iter().any(|it| it.key == ours) {
        format!("`{ours}` stands at the top of the main file, before the first table")
    } else {
        format!("`{ours}` is a key of another table")
    }
}

/// The one of `known` that `word` is most likely a slip of.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // One slip in three letters: more of them make another word.
    let limit = word.chars().count().div_ceil(3).min(3);
    known
        .map(|it| (strsim::osa_distance(word, it), it))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, it)| it)
}

/// A hint that names the nearest of `known`, or all of them.
pub(super) fn for_word(word: &str, known: &[&str]) -> Option<String> {
    match nearest(word, known.iter().copied()) {
        Some(near) => Some(format!("write {near:?}")),
        None if known.is_empty() => None,
        None => Some(format!("known are: {}", known.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let known = ["domains", "targets", "ca"];
        assert_eq!(nearest("domians", known.into_iter()), Some("domains"));
        assert_eq!(nearest("target", known.into_iter()), Some("targets"));
        assert_eq!(nearest("profile", known.into_iter()), None);
    }

    #[test]
    fn keys_of_other_programs_get_ours() {
        let hint = |key| for_key(key, &["domains", "name"]).unwrap();
        for foreign in ["identifiers", "hosts", "sans"] {
            assert_eq!(hint(foreign), "write `domains`");
        }
        assert_eq!(
            hint("email"),
            "`contact` stands at the top of the main file, before the first table"
        );
        assert_eq!(for_key("agree_tos", &["terms_of_service_agreed"]).unwrap(), {
            "write `terms_of_service_agreed`"
        });
    }
}
