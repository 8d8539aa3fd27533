"""Who covers for ablated sites: lines, motifs, freeze tests beside controls."""
