package payment

import (
	"net/http"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

type refundRequest struct {
	Amount eventbus.Decimal `json:"amount"`
}

// Check implements [service.Body].
func (q refundRequest) Check(p *service.Problems) {
	p.Require(q.Amount.Sign() > 0, "amount", "a number greater than 0, such as 19.90")
}

// refundPart gives back a part of a payment, or the rest.
func (s *Service) refundPart(r *http.Request, in refundRequest) (Payment, error) {
	bookingID, ok := s.bookingIDs.Get(r.PathValue("transactionId"))
	if !ok {
		return Payment{}, noPayment(r)
	}
	unlock, err := s.locks.Lock(r.Context(), bookingID)
	if err != nil {
		return Payment{}, err
	}
	defer unlock()
	p, _ := s.payments.Get(bookingID)
	switch {
	case p.Left.Sign() == 0:
		return Payment{}, service.Errorf(http.StatusConflict, "nothing is left to refund: the payment is %s", p.Status)
	case in.Amount.Cmp(p.Left) > 0:
		return Payment{}, service.Invalid("amount", "at most "+p.Left.String()+", what is left")
	}
	refunded, happened := p.refunded(in.Amount)
	if err := s.save(saga(r, p), refunded, happened); err != nil {
		return Payment{}, err
	}
	return refunded, nil
}
