"""Data in the layout of Pascal VOC, and UPerNet as a head, for Medusa."""
