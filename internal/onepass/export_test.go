package onepass

// Quick and Pinned are the formats.
var Quick, Pinned = quick, pinned
