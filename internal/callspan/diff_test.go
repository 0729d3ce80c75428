package callspan

import (
	"math/rand/v2"
	"testing"
)

// TestLikeSDK lets random lives of spans pass, always the same ones.
func TestLikeSDK(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	n := 1500
	if testing.Short() {
		n = 200
	}
	for range n {
		s := make(script, r.IntN(120))
		for i := range s {
			s[i] = byte(r.Uint32())
		}
		live(t, s)
		if t.Failed() {
			t.Fatalf("life %q", s)
		}
	}
}

// FuzzLikeSDK lets a fuzzer write the lives.
func FuzzLikeSDK(f *testing.F) {
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, life []byte) { live(t, life) })
}
