//go:build race

package ext4

// raceEnabled says that everything is several times slower.
const raceEnabled = true
