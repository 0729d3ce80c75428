package exporter

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// slack is added to every limit that is measured on real sockets: the machine may do
// other things, and what is looked for (a lost wake-up, a ping waited for) takes
// longer by far. Retry and shutdown have their exact limits in virtual time, in
// flow_test.go; that a mistake is told within a second is measured here alone.
const slack = 3 * time.Second
