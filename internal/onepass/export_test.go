package onepass

// Quick and Pinned are the formats, Own is what makes the latter.
var (
	Quick, Pinned = quick, pinned
	Own           = own
)
