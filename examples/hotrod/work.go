package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// work pretends to be busy for about d, a fifth more or less. It returns early
// with the error of ctx.
func work(ctx context.Context, d time.Duration) error {
	d += time.Duration((rand.Float64() - 0.5) * 0.4 * float64(d))
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
