package middleware

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/meshtrace/meshtrace/internal/semconv"
)

// maxBaggageValue bounds in bytes what a member of baggage puts into an attribute.
const maxBaggageValue = 1 << 10

// baggageCopier puts members of the baggage around a span on it, as attributes of the
// same name.
type baggageCopier struct{ keys []string }

var _ sdktrace.SpanProcessor = baggageCopier{}

// OnStart copies what ctx has of the keys.
func (c baggageCopier) OnStart(ctx context.Context, s sdktrace.ReadWriteSpan) {
	b := baggage.FromContext(ctx)
	if b.Len() == 0 {
		return
	}
	for _, k := range c.keys {
		if v := b.Member(k).Value(); v != "" {
			s.SetAttributes(attribute.String(k, semconv.Cut(v, maxBaggageValue)))
		}
	}
}

func (baggageCopier) OnEnd(sdktrace.ReadOnlySpan)      {}
func (baggageCopier) Shutdown(context.Context) error   { return nil }
func (baggageCopier) ForceFlush(context.Context) error { return nil }
