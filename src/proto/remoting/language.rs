//! The language of a client, which JSON headers name and binary ones number.

/// Those that RocketMQ numbers. A client of another one is `Other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    Java = 0,
    Cpp = 1,
    Dotnet = 2,
    Python = 3,
    Delphi = 4,
    Erlang = 5,
    Ruby = 6,
    #[default]
    Other = 7,
    Http = 8,
    Go = 9,
    Php = 10,
    Oms = 11,
    Rust = 12,
    NodeJs = 13,
}

const NAMES: [(Language, &str); 14] = [
    (Language::Java, "JAVA"),
    (Language::Cpp, "CPP"),
    (Language::Dotnet, "DOTNET"),
    (Language::Python, "PYTHON"),
    (Language::Delphi, "DELPHI"),
    (Language::Erlang, "ERLANG"),
    (Language::Ruby, "RUBY"),
    (Language::Other, "OTHER"),
    (Language::Http, "HTTP"),
    (Language::Go, "GO"),
    (Language::Php, "PHP"),
    (Language::Oms, "OMS"),
    (Language::Rust, "RUST"),
    (Language::NodeJs, "NODE_JS"),
];

impl Language {
    pub fn of_number(number: u8) -> Self {
        NAMES.get(usize::from(number)).map_or(Self::Other, |(language, _)| *language)
    }

    pub fn of_name(name: &str) -> Self {
        NAMES.iter().find(|(_, known)| *known == name).map_or(Self::Other, |(language, _)| *language)
    }

    pub fn name(self) -> &'static str {
        NAMES[self as usize].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_its_number_and_name_and_others_are_other() {
        for (number, (language, name)) in (0..).zip(NAMES) {
            assert_eq!((language as u8, language.name()), (number, name));
            assert_eq!((Language::of_number(number), Language::of_name(name)), (language, language));
        }
        assert_eq!((Language::of_number(14), Language::of_name("ZIG")), (Language::Other, Language::Other));
    }
}
