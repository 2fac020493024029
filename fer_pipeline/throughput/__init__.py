"""The benchmark: cases in processes of their own, which import no more of it than they need."""
