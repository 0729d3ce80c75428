package sampler

import (
	"testing"

	"github.com/meshtrace/meshtrace/requestid"
)

var sinkDecision Decision

func BenchmarkDecide(b *testing.B) {
	s, err := New(Config{Random: Percent(1), Rules: []Rule{{Route: "/livez", Drop: true}, {Route: "/checkout*", Shares: Shares{Random: Percent(100)}}}})
	if err != nil {
		b.Fatal(err)
	}
	limited, err := New(Config{PerSecond: 100})
	if err != nil {
		b.Fatal(err)
	}
	r := Request{ID: "125a4afb-6f55-44ba-ad80-413f09f48a28", Method: "GET", Route: "/carts/{id}"}
	cfg := s.cfg
	for _, c := range []struct {
		name   string
		decide func(Request) Decision
	}{
		{"pure", func(r Request) Decision { return Decide(r, cfg) }},
		{"sampler", s.Decide},
		{"limited", limited.Decide},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sinkDecision = c.decide(r)
			}
		})
	}
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				_ = s.Decide(Request{ID: requestid.ID("125a4afb-6f55-44ba-ad80-413f09f48a28")})
			}
		})
	})
}
