package bench

import (
	"testing"

	"github.com/google/uuid"

	"github.com/meshtrace/meshtrace/requestid"
)

// BenchmarkNewID makes a request id. google/uuid can draw its randomness from the system
// in larger pieces, which most programs do not ask for.
func BenchmarkNewID(b *testing.B) {
	b.Run("version 4", func(b *testing.B) {
		compare(b,
			library{"meshtrace", shared(func() { keep(string(requestid.New())) })},
			library{"google-uuid", shared(func() { keep(uuid.NewString()) })},
			library{"google-uuid-pool", func(b *testing.B) func() func() {
				uuid.EnableRandPool()
				b.Cleanup(uuid.DisableRandPool)
				return func() func() { return func() { keep(uuid.NewString()) } }
			}},
		)
	})
}

// keep takes a string as code of another package would: it has to be made.
//
//go:noinline
func keep(string) {}
