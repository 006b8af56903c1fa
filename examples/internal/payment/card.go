package payment

import (
	"context"
	"net/http"

	"github.com/dreamscape/eventbus/examples/internal/service"
)

// card is what is kept of a card: not its number.
type card struct {
	last4             string
	errorCode, reason string // of every charge; "": it is accepted
}

// testCards are the only ones that are taken; they are Stripe's.
var testCards = map[string]card{
	"4242424242424242": {last4: "4242"},
	"4000000000000002": {last4: "0002", errorCode: "card_declined", reason: "the card was declined"},
	"4000000000009995": {last4: "9995", errorCode: "insufficient_funds", reason: "the card has insufficient funds"},
}

type newCard struct {
	CardNumber string `json:"cardNumber"`
}

// Check implements [service.Body].
func (n newCard) Check(p *service.Problems) {
	_, ok := testCards[n.CardNumber]
	p.Require(ok, "cardNumber", "a test card: 4242424242424242 (accepted), 4000000000000002 (declined) or 4000000000009995 (insufficient funds)")
}

type savedCard struct {
	UserID  string    `json:"userId"`
	Last4   string    `json:"last4"`
	Charged []Payment `json:"charged"` // the payments that waited for a card
}

// setCard puts a card on file and charges what has waited for it. Repeated after an error, it charges the rest.
func (s *Service) setCard(r *http.Request, in newCard) (savedCard, error) {
	saved := savedCard{UserID: r.PathValue("userId"), Last4: testCards[in.CardNumber].last4}
	s.cards.Put(saved.UserID, testCards[in.CardNumber])
	waiting := s.payments.Select(func(p Payment) bool { return p.UserID == saved.UserID && p.Status == Initiated })
	for _, p := range waiting {
		charged, err := s.chargeWaiting(saga(r, p), p.BookingID)
		if err != nil {
			return savedCard{}, err
		}
		saved.Charged = append(saved.Charged, charged)
	}
	return saved, nil
}

func (s *Service) chargeWaiting(ctx context.Context, bookingID string) (Payment, error) {
	unlock, err := s.locks.Lock(ctx, bookingID)
	if err != nil {
		return Payment{}, err
	}
	defer unlock()
	p, _ := s.payments.Get(bookingID)
	if err := s.charge(ctx, p); err != nil {
		return Payment{}, err
	}
	p, _ = s.payments.Get(bookingID)
	return p, nil
}
