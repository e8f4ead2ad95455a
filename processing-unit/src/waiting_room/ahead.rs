//! How many of the first ranks have left: a Fenwick tree over the ranks. Noting one and counting a range
//! cost O(log n).

/// The ranks that have left.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct GoneRanks {
    /// The sum at `i` is that of the `lowest bit of i+1` ranks that end at rank `i`.
    sums: Vec<u32>,
}

/// The lowest bit that is set.
fn lowest_bit(number: usize) -> usize {
    number & number.wrapping_neg()
}

impl GoneRanks {
    /// Adds a rank at the end, of an entry that is there.
    pub(super) fn push(&mut self) {
        let number = self.sums.len() + 1;
        let mut sum = 0;
        let mut child = number - 1;
        while child > number - lowest_bit(number) {
            sum += self.sums[child - 1];
            child -= lowest_bit(child);
        }
        self.sums.push(sum);
    }

    /// Notes that the entry with this rank has left.
    pub(super) fn leave(&mut self, rank: u32) {
        let mut number = rank as usize + 1;
        while let Some(sum) = self.sums.get_mut(number - 1) {
            *sum += 1;
            number += lowest_bit(number);
        }
    }

    /// How many of the ranks before this one have left.
    pub(super) fn before(&self, rank: u32) -> u32 {
        let mut number = (rank as usize).min(self.sums.len());
        let mut sum = 0;
        while number > 0 {
            sum += self.sums[number - 1];
            number -= lowest_bit(number);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_counted_as_a_list_would() {
        let mut tree = GoneRanks::default();
        let mut list: Vec<bool> = Vec::new();
        for step in 0u32..600 {
            tree.push();
            list.push(false);
            if step % 3 == 1 {
                let rank = (step * 7) % (step + 1);
                if !list[rank as usize] {
                    tree.leave(rank);
                    list[rank as usize] = true;
                }
            }
            let rank = (step * 5) % (step + 2);
            let plain = list
                .iter()
                .take(rank as usize)
                .filter(|gone| **gone)
                .count();
            assert_eq!(tree.before(rank), plain as u32, "step {step}, rank {rank}");
        }
    }
}
