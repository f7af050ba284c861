//! How like two words are, for the likely name of a misspelt key.

/// A misspelling changes at most one in this many letters.
const LIKENESS: usize = 3;

/// Whether `a` may be a misspelling of `b`.
#[must_use]
pub fn is_like(a: &str, b: &str) -> bool {
    likeness(a, b) <= (a.chars().count() / LIKENESS).max(1)
}

/// The number of letters to add, drop, change or swap with their neighbour to turn `a` into `b` (optimal string alignment).
/// Only the first 64 letters of `a` count, which bounds the time for hostile names.
pub(super) fn likeness(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().collect();
    let at = |row: &[usize], i: usize| row.get(i).copied().unwrap_or(usize::MAX / 2);
    let (mut before, mut last): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=b.len()).collect());
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let changed = at(&last, j) + usize::from(x != y);
            let mut least = changed.min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                least = least.min(at(&before, j - 1) + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    at(&last, b.len())
}
