//! How local-parts are compared: in lower case and composed (Unicode's NFC), so that `AÑIL`, typed on a keyboard that
//! sends `N` and a tilde separately, reaches `añil`. RFC 5321 §2.4 leaves case to the host; RFC 6532 §3.1 asks for
//! NFC.
//!
//! The table holds the letters with marks of the Latin, Greek, Cyrillic, Arabic and kana scripts; text in other
//! scripts only changes its case. A full table would be ten times as large, for names that hardly occur.
//!
//! | step | `AÑIL` as one code point | as `N` and a tilde |
//! | --- | --- | --- |
//! | lower case | `añil` | `an` U+0303 `il` |
//! | decompose; marks in the order of their classes | `an` U+0303 `il` | `an` U+0303 `il` |
//! | compose | `añil` | `añil` |

/// A mark, its canonical combining class, and pairs of a lower-case letter with the letter under the mark.
type MarkRow = (char, u8, &'static str);

#[rustfmt::skip]
const ROWS: [MarkRow; 34] = [
    ('\u{300}', 230, "aàeèiìoòuùüǜnǹеѐиѝēḕōṑwẁâầăằêềôồơờưừyỳἀἂἁἃἐἒἑἓἠἢἡἣἰἲἱἳὀὂὁὃὐὒὑὓὠὢὡὣαὰεὲηὴιὶοὸυὺωὼ᾿῍ϊῒ῾῝ϋῢ¨῭"),
    ('\u{301}', 230, "aáeéiíoóuúyýcćlĺnńrŕsśzźüǘgǵåǻæǽøǿ¨΅ϊΐαάεέηήιίϋΰοόυύωώϒϓгѓкќçḉēḗïḯkḱmḿõṍōṓpṕũṹwẃâấăắêếôốơớưứἀἄἁἅἐἔἑἕἠἤἡἥἰἴἱἵὀὄὁὅὐὔὑὕὠὤὡὥ᾿῎῾῞"),
    ('\u{302}', 230, "aâeêiîoôuûcĉgĝhĥjĵsŝwŵyŷzẑạậẹệọộ"),
    ('\u{303}', 230, "aãnñoõiĩuũvṽâẫăẵeẽêễôỗơỡưữyỹ"),
    ('\u{304}', 230, "aāeēiīoōuūüǖäǟȧǡæǣǫǭöȫõȭȯȱyȳиӣуӯgḡḷḹṛṝαᾱιῑυῡ"),
    ('\u{306}', 230, "aăeĕgğiĭoŏuŭийуўжӂаӑеӗȩḝạặαᾰιῐυῠ"),
    ('\u{307}', 230, "cċeėgġzżaȧoȯbḃdḋfḟhḣmṁnṅpṗrṙsṡśṥšṧṣṩtṫwẇxẋyẏſẛ"),
    ('\u{308}', 230, "aäeëiïoöuüyÿιϊυϋϒϔеёіїаӓәӛжӝзӟиӥоӧөӫэӭуӱчӵыӹhḧõṏūṻwẅxẍtẗ"),
    ('\u{309}', 230, "aảâẩăẳeẻêểiỉoỏôổơởuủưửyỷ"),
    ('\u{30a}', 230, "aåuůwẘyẙ"),
    ('\u{30b}', 230, "oőuűуӳ"),
    ('\u{30c}', 230, "cčdďeělľnňrřsštťzžaǎiǐoǒuǔüǚgǧkǩʒǯjǰhȟ"),
    ('\u{30f}', 230, "aȁeȅiȉoȍrȑuȕѵѷ"),
    ('\u{311}', 230, "aȃeȇiȋoȏrȓuȗ"),
    ('\u{313}', 230, "αἀεἐηἠιἰοὀυὐωὠρῤ"),
    ('\u{314}', 230, "αἁεἑηἡιἱοὁυὑωὡρῥ"),
    ('\u{31b}', 216, "oơuư"),
    ('\u{323}', 220, "bḅdḍhḥkḳlḷmṃnṇrṛsṣtṭvṿwẉzẓaạeẹiịoọơợuụưựyỵ"),
    ('\u{324}', 220, "uṳ"),
    ('\u{325}', 220, "aḁ"),
    ('\u{326}', 220, "sștț"),
    ('\u{327}', 202, "cçgģkķlļnņrŗsştţeȩdḑhḩ"),
    ('\u{328}', 202, "aąeęiįuųoǫ"),
    ('\u{32d}', 220, "dḓeḙlḽnṋtṱuṷ"),
    ('\u{32e}', 220, "hḫ"),
    ('\u{330}', 220, "eḛiḭuṵ"),
    ('\u{331}', 220, "bḇdḏkḵlḻnṉrṟtṯzẕhẖ"),
    ('\u{342}', 230, "ἀἆἁἇἠἦἡἧἰἶἱἷὐὖὑὗὠὦὡὧαᾶ¨῁ηῆ᾿῏ιῖϊῗ῾῟υῦϋῧωῶ"),
    ('\u{345}', 240, "ἀᾀἁᾁἂᾂἃᾃἄᾄἅᾅἆᾆἇᾇἠᾐἡᾑἢᾒἣᾓἤᾔἥᾕἦᾖἧᾗὠᾠὡᾡὢᾢὣᾣὤᾤὥᾥὦᾦὧᾧὰᾲαᾳάᾴᾶᾷὴῂηῃήῄῆῇὼῲωῳώῴῶῷ"),
    ('\u{653}', 230, "اآ"),
    ('\u{654}', 230, "اأوؤيئەۀہۂےۓ"),
    ('\u{655}', 220, "اإ"),
    ('\u{3099}', 8, "かがきぎくぐけげこごさざしじすずせぜそぞただちぢつづてでとどはばひびふぶへべほぼうゔゝゞカガキギクグケゲコゴサザシジスズセゼソゾタダチヂツヅテデトドハバヒビフブヘベホボウヴワヷヰヸヱヹヲヺヽヾ"),
    ('\u{309a}', 8, "はぱひぴふぷへぺほぽハパヒピフプヘペホポ"),
];

/// Letters that have two code points: the one to replace, and its replacement.
const TWICE: &str = "άάέέήήίίόόύύώώιιΐΐΰΰ";

/// The form by which local-parts, and names in the configuration, are compared.
#[must_use]
pub fn fold(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    let mut apart = Vec::new();
    name.chars().flat_map(char::to_lowercase).for_each(|c| decompose(c, &mut apart));
    compose(apart)
}

fn pairs(row: &MarkRow) -> impl Iterator<Item = (char, char)> {
    pairs_of(row.2)
}

fn pairs_of(text: &'static str) -> impl Iterator<Item = (char, char)> {
    let mut chars = text.chars();
    std::iter::from_fn(move || chars.next().zip(chars.next()))
}

/// Appends the letter, then its marks in the order of their classes.
fn decompose(c: char, apart: &mut Vec<char>) {
    if c.is_ascii() {
        return apart.push(c);
    }
    if let Some((_, other)) = pairs_of(TWICE).find(|(twin, _)| *twin == c) {
        return decompose(other, apart);
    }
    let found = ROWS.iter().find_map(|row| Some((pairs(row).find(|(_, whole)| *whole == c)?.0, row.0)));
    match found {
        Some((letter, mark)) => {
            decompose(letter, apart);
            decompose(mark, apart);
        }
        None => {
            let class = class(c);
            let behind = apart.iter().rev().take_while(|before| class > 0 && self::class(**before) > class);
            let place = apart.len() - behind.count();
            apart.insert(place, c);
        }
    }
}

/// The combining class; 0 if it is not a mark of this table.
fn class(c: char) -> u8 {
    ROWS.iter().find(|(mark, ..)| *mark == c).map_or(0, |(_, class, _)| *class)
}

/// Composes each mark with the last letter, if the table has the result and no other mark of the same class stands
/// between them.
fn compose(apart: Vec<char>) -> String {
    let mut whole: Vec<char> = Vec::with_capacity(apart.len());
    let (mut letter, mut last_class) = (None, 0);
    for c in apart {
        let class = class(c);
        let place = letter.filter(|place| class > 0 && (place + 1 == whole.len() || last_class < class));
        let composed = place.and_then(|place: usize| {
            let row = ROWS.iter().find(|(mark, ..)| *mark == c)?;
            let (_, composed) = pairs(row).find(|(base, _)| whole.get(place) == Some(base))?;
            whole.get_mut(place).map(|slot| *slot = composed)
        });
        if composed.is_none() {
            if class == 0 {
                letter = Some(whole.len());
            }
            last_class = class;
            whole.push(c);
        }
    }
    whole.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_the_same_is_the_same() {
        for (name, folded) in [
            ("Root", "root"),
            ("", ""),
            ("AÑIL", "añil"),
            ("AN\u{303}IL", "añil"),
            ("an\u{303}il", "añil"),
            ("MU\u{308}LLER", "müller"),
            ("Straße", "straße"),
            // Marks of different classes, in any order.
            ("e\u{323}\u{302}", "ệ"),
            ("E\u{302}\u{323}", "ệ"),
            ("Ê\u{323}", "ệ"),
            ("Ẹ\u{302}", "ệ"),
            // Within a class their order counts.
            ("u\u{308}\u{301}", "ǘ"),
            ("u\u{301}\u{308}", "ú\u{308}"),
            ("ΆΝΝΑ", "άννα"),
            ("Α\u{301}ννα", "άννα"),
            ("\u{1f71}ννα", "άννα"),
            ("ИВАН.КРАВЕЦ", "иван.кравец"),
            ("И\u{306}од", "йод"),
            ("か\u{3099}", "が"),
            // No letter has this mark.
            ("q\u{303}", "q\u{303}"),
            ("\u{303}n", "\u{303}n"),
            ("例え", "例え"),
        ] {
            assert_eq!(fold(name), folded, "{name:?}");
            assert_eq!(fold(&fold(name)), folded, "{name:?}");
        }
    }

    #[test]
    fn the_rows_are_whole_and_stay_as_they_are() {
        for row in &ROWS {
            assert!(row.1 > 0 && row.2.chars().count().is_multiple_of(2), "{row:?}");
            for (letter, composed) in pairs(row) {
                assert_eq!(fold(&format!("{letter}{}", row.0)), composed.to_string());
                assert_eq!(fold(&composed.to_string()), composed.to_string());
            }
        }
    }
}
