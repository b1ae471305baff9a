"""Files of the images and of docker-compose.yml; the Python here runs inside containers.

Dockerfile   both images
prepare.py   the job that runs first: owners of volumes, generated passwords
alive.py     the health check of our own processes
mlflow.py    becomes the MLflow server
nginx.conf   one port in front of the API's replicas
redis.conf   what Redis may use and keep
"""
