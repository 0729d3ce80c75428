package middleware

import (
	"context"
	"os"
	"strings"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/meshtrace/meshtrace/internal/callspan"
)

// provider is the SDK's TracerProvider that Setup made, and knows of the spans that do not
// come from it: who adds a processor to it hears of all.
type provider struct {
	*sdktrace.TracerProvider
	calls *callspan.Source
}

// RegisterSpanProcessor adds a processor, as the SDK's method of that name does.
func (p *provider) RegisterSpanProcessor(sp sdktrace.SpanProcessor) {
	p.TracerProvider.RegisterSpanProcessor(sp)
	p.calls.Register(sp)
}

// UnregisterSpanProcessor removes a processor and shuts it down, as the SDK's method of
// that name does.
func (p *provider) UnregisterSpanProcessor(sp sdktrace.SpanProcessor) {
	p.calls.Unregister(sp)
	p.TracerProvider.UnregisterSpanProcessor(sp)
}

// Shutdown shuts the processors down, which hear of no span from then on.
func (p *provider) Shutdown(ctx context.Context) error {
	p.calls.Reset(nil)
	return p.TracerProvider.Shutdown(ctx)
}

// sdkMade tells whether a TracerProvider is the SDK's, ours included.
func sdkMade(tp any) bool {
	switch tp.(type) {
	case *sdktrace.TracerProvider, *provider:
		return true
	}
	return false
}

// sdkObserved tells whether the SDK measures its spans, as its variables ask it to in the
// process's environment: spans that are not its own would be missing in the result.
func sdkObserved() bool {
	for _, name := range []string{"OTEL_GO_X_OBSERVABILITY", "OTEL_GO_X_SELF_OBSERVABILITY"} {
		if strings.EqualFold(os.Getenv(name), "true") {
			return true
		}
	}
	return false
}
