package progress

// Runs are the done offsets of m, relative to the committed one: from inclusive, to exclusive.
func (m Map) Runs() [][2]int64 {
	runs := [][2]int64{}
	for _, r := range m.runs {
		runs = append(runs, [2]int64{r.from, r.to})
	}
	return runs
}

const MaxSpan = maxSpan
