package propagation

import (
	"context"
	"fmt"

	"github.com/meshtrace/meshtrace/internal/reqctx"
)

// Sampling is what trace headers say about sampling beyond OpenTelemetry's flag. The
// words are B3's; the zero value says nothing.
type Sampling uint8

const (
	Unstated Sampling = iota // no header said anything; the flag of a span context counts
	Deny                     // not to be sampled, with ids or without
	Deferred                 // ids without a decision: whoever reads them decides
	Accept                   // to be sampled, with ids or without
	Debug                    // to be sampled whatever the shares, and said on to every later hop
)

// String returns the name of the constant in lower case.
func (s Sampling) String() string {
	switch s {
	case Unstated:
		return "unstated"
	case Deny:
		return "deny"
	case Deferred:
		return "deferred"
	case Accept:
		return "accept"
	case Debug:
		return "debug"
	}
	return fmt.Sprintf("Sampling(%d)", uint8(s))
}

// SamplingFromContext returns what the incoming headers of the request around ctx
// stated, Unstated outside of one.
func SamplingFromContext(ctx context.Context) Sampling {
	return Sampling(reqctx.SamplingFrom(ctx))
}
