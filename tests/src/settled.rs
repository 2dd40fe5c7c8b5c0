//! What commands print, without what differs from run to run.

/// Dates, keys and ports in a text by the words for them.
pub fn settled(printed: &str) -> String {
    let mut settled = String::new();
    for word in printed.split_inclusive([' ', '\n']) {
        let (bare, end) = word.split_at(word.trim_end_matches([' ', '\n', ';', ',', ':', ')']).len());
        let is_date = bare.len() == 20 && bare.ends_with('Z');
        let is_key = bare.len() == 64 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
        let port = bare.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
        match (is_date, is_key, port) {
            (true, ..) => settled.push_str("DATE"),
            (_, true, _) => settled.push_str("KEY"),
            (_, _, Some((host, _))) => settled.push_str(&format!("{host}:PORT")),
            _ => settled.push_str(bare),
        }
        settled.push_str(end);
    }
    settled
}
