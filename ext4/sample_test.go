package ext4

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
)

// seedOf is another number for each run, or that in BANGER_EXT4_SEED, and is logged to
// be put there.
func seedOf(t testing.TB) uint64 {
	t.Helper()
	seed, err := strconv.ParseUint(os.Getenv("BANGER_EXT4_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("BANGER_EXT4_SEED=%d", seed)
	return seed
}

// fewer says to do a part of the work: with -short, and with -race, which makes all
// slow and finds nothing in cases that are each the work of one goroutine.
func fewer() bool { return raceEnabled || testing.Short() }

// sampled is what a test takes of its cases: all, or a third.
func sampled[T any](t testing.TB, cases []T) []T {
	t.Helper()
	if !fewer() {
		return cases
	}
	some := slices.Clone(cases)
	rng := rand.New(rand.NewPCG(seedOf(t), 0))
	rng.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
	return some[:(len(some)+2)/3]
}

// stepOf is 1, or n where a test does fewer cases: each n-th.
func stepOf(n int) int {
	if fewer() {
		return n
	}
	return 1
}
